/** The list of what was heard, and the file of it, in the format of `kws listen --format jsonl`. */

const MOST_SHOWN = 500;

export class Heard {
  /** @param {HTMLOListElement} list */
  constructor(list) {
    this.list = list;
    this.clear();
  }

  clear() {
    this.records = [];
    this.list.replaceChildren();
  }

  /** @param {string} path of the sound @param {import("./detector.js").Detection} found */
  add(path, found) {
    const [start_s, end_s, time_s] = [found.start_s, found.end_s, found.time_s].map(milliseconds);
    this.records.push({ path, word: found.word, start_s, end_s, time_s, confidence: found.confidence });
    const item = document.createElement("li");
    for (const text of [`${time_s.toFixed(2)} s`, found.word, `${(100 * found.confidence).toFixed(1)} %`]) {
      item.append(Object.assign(document.createElement("span"), { textContent: text }), " ");
    }
    this.list.prepend(item);
    while (this.list.children.length > MOST_SHOWN) this.list.lastChild.remove();
  }

  /** @returns {string} */
  asLines() {
    return this.records.map((record) => `${JSON.stringify(record)}\n`).join("");
  }
}

const milliseconds = (seconds) => Math.round(seconds * 1000) / 1000;
