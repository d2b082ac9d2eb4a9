// Where answers come from: the server, or, in a page that was exported, the answers saved in it.

class Live {
  saved = null;

  about() { return this.#get("api/about"); }

  texts() { return this.#get("api/texts"); }

  diagnosis(waiting) { return this.#get("api/diagnosis", waiting); }

  async numbers(name, waiting) {
    const response = await this.#wait(`api/${name}`, waiting);
    return new Float32Array(await response.arrayBuffer());
  }

  async ask(name, body) {
    const headers = { "content-type": "application/json" };
    const response = await answered(`api/${name}`, { method: "POST", headers, body: JSON.stringify(body) });
    return response.json();
  }

  async #get(path, waiting) {
    return (await this.#wait(path, waiting)).json();
  }

  // What takes long is asked for until it is there.
  async #wait(path, waiting = () => {}) {
    for (let pause = 250; ; pause = Math.min(2000, pause * 1.4)) {
      const response = await answered(path);
      if (response.status !== 202) return response;
      waiting();
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }
}

async function answered(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("The server does not answer. Is `seqvae explore` still running?");
  }
  if (response.ok) return response;
  const { error } = await response.json().catch(() => ({ error: { what: `the server answered ${response.status}` } }));
  throw new Error([error.code ? `${error.code}: ${error.what}` : error.what, error.hint].filter(Boolean).join(" — "));
}

class Saved {
  constructor(saved) {
    this.saved = saved;
    this.answers = new Map(saved.answers.map(({ name, body, answer }) => [answerKey(name, body), answer]));
  }

  async about() { return this.saved.about; }

  async texts() { return this.saved.texts; }

  async diagnosis() { return this.saved.diagnosis; }

  async numbers(name) {
    const found = this.saved.numbers[name];
    if (!found) throw new Error("This page was saved without that.");
    const bytes = Uint8Array.from(atob(found), (char) => char.charCodeAt(0));
    return new Float32Array(bytes.buffer);
  }

  async ask(name, body) {
    const found = this.answers.get(answerKey(name, body));
    if (!found) throw new Error("This page holds no answer to that: it was saved, and there is no model behind it.");
    return found;
  }
}

const answerKey = (name, body) => name + JSON.stringify(Object.entries(body).sort(([a], [b]) => (a < b ? -1 : 1)));

export function openSource() {
  const saved = document.getElementById("saved");
  return saved ? new Saved(JSON.parse(saved.textContent)) : new Live();
}
