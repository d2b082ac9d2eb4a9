// Elements. Whatever text they hold is set as text: nothing a corpus or a model wrote is ever read as markup.

export function h(name, props = {}, ...children) {
  return dressed(document.createElement(name), props, children);
}

export function svg(name, props = {}, ...children) {
  return dressed(document.createElementNS("http://www.w3.org/2000/svg", name), props, children);
}

function dressed(element, props, children) {
  for (const [key, value] of Object.entries(props)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "style") for (const [rule, set] of Object.entries(value)) element.style.setProperty(rule, set);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const byId = (id) => document.getElementById(id);

export function fill(element, ...children) {
  element.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

let hiding;

export function notify(message) {
  const notice = byId("notice");
  notice.textContent = message;
  notice.hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(() => { notice.hidden = true; }, 6000);
}

// A text with the words marked that another one has not.
export function changed(text, before) {
  if (before === null || before === undefined || before === text) return [text];
  const known = new Set(before.split(" "));
  return text.split(" ").flatMap((word, place) => [place ? " " : "", known.has(word) ? word : h("mark", {}, word)]);
}

export const shown = (text) => (text === "" ? "(an empty sentence)" : text);

export function number(value, digits = 2) {
  if (value === null || value === undefined) return "–";
  const rounded = value.toFixed(digits);
  return (Number(rounded) === 0 ? (0).toFixed(digits) : rounded).replace("-", "−");
}
