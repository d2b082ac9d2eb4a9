// What a link restores: everything that was chosen, after the # of the address.

const kept = new URLSearchParams(location.hash.slice(1));
let writing;

export const view = {
  get: (name, otherwise = "") => kept.get(name) ?? otherwise,

  has: (name) => kept.has(name),

  set(name, value) {
    if (value === "" || value === null || value === undefined) kept.delete(name);
    else kept.set(name, value);
    clearTimeout(writing);
    writing = setTimeout(view.write, 150);
  },

  write() {
    clearTimeout(writing);
    if (`#${kept}` !== location.hash) history.replaceState(null, "", `#${kept}`);
  },

  link() {
    view.write();
    return location.href;
  },
};

// Somebody pasted another link over this one.
addEventListener("hashchange", () => location.reload());
