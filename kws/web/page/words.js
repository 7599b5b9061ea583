/** The words: how sure the model is of each now, and from which confidence it counts. */
import { confidenceOf, scoreOf, thresholdOf } from "./detector.js";

const LIT = 1500; // milliseconds after a word was heard
const [LEAST, MOST] = [0.05, 0.99];

export class Words {
  /** @param {HTMLElement} list @param {(rule: import("./detector.js").Rule) => void} onRule */
  constructor(list, onRule) {
    this.list = list;
    this.onRule = onRule;
  }

  /** @param {import("./metadata.js").Facts} facts of the model that is heard now */
  use({ labels, rule }) {
    this.rule = rule;
    this.keywords = labels.slice(0, -2);
    this.cards = this.keywords.map((word) => this.card(word));
    this.list.replaceChildren(...this.cards.map(({ item }) => item));
    this.reset();
  }

  /** Take the model's thresholds again. */
  reset() {
    this.thresholds = { ...this.rule.thresholds };
    this.keywords.forEach((word, index) => {
      const confidence = confidenceOf(thresholdOf(this.rule, word));
      this.cards[index].show(confidence);
    });
    this.onRule(this.rule);
  }

  /** @param {number[]} best confidence of each keyword in the last moment */
  show(best) {
    best.forEach((confidence, index) => { this.cards[index].bar.style.transform = `scaleX(${confidence})`; });
  }

  /** @param {string} word that was heard */
  light(word) {
    const card = this.cards[this.keywords.indexOf(word)];
    card.item.classList.add("lit");
    clearTimeout(card.timer);
    card.timer = setTimeout(() => card.item.classList.remove("lit"), LIT);
  }

  card(word) {
    const item = document.createElement("li");
    item.innerHTML = "<strong></strong><div class=\"bar\" aria-hidden=\"true\"><div></div></div>"
      + `<label><input type="range" min="${LEAST}" max="${MOST}" step="0.01"><output></output></label>`;
    const [name, bar, slider, output] = ["strong", ".bar div", "input", "output"]
      .map((part) => item.querySelector(part));
    name.textContent = word;
    slider.setAttribute("aria-label", `Least confidence of ${word}`);
    const show = (confidence) => {
      slider.value = confidence;
      output.textContent = Number(slider.value).toFixed(2);
      bar.parentElement.style.setProperty("--threshold", slider.value);
    };
    slider.addEventListener("input", () => {
      show(slider.value);
      this.thresholds[word] = scoreOf(Number(slider.value));
      this.onRule({ ...this.rule, thresholds: this.thresholds });
    });
    return { item, bar, show };
  }
}
