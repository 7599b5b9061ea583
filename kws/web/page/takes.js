/** Takes of a word, recorded from what the page hears: prompt, level check, hear again, delete, save. */
import { save, wave, zip } from "./archive.js";
import { joined } from "./listener.js";
import { cutTake } from "./take.js";

const COUNT = 10;
const PROMPT = 1000; // milliseconds to read it, or to have it read, before the recording
const SECONDS = 2; // in which the word is said

export class Takes {
  /**
   * @param {HTMLElement} panel
   * @param {() => Promise<boolean>} listen opens the microphone
   */
  constructor(panel, listen) {
    const [form, list, prompt, now, record, all] = ["form", "ul", "#prompt", "#now", "#takes-record", "#takes-save"]
      .map((part) => panel.querySelector(part));
    Object.assign(this, { form, list, prompt, now, record, all, listen });
    this.takes = [];
    this.run = null; // which recording of takes goes on
    this.number = Math.floor(Date.now() / 1000); // of the next take: the takes of another visit have others
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.run) this.stop();
      else this.recordTakes();
    });
    all.addEventListener("click", () => this.save());
  }

  /** @param {number} rate of the samples that will be heard, in Hz */
  use(rate) {
    this.rate = rate;
    this.record.disabled = false;
  }

  /** @param {Float32Array} samples that the page heard just now */
  hear(samples) {
    if (!this.done) return;
    this.collected = joined(this.collected, samples);
    if (this.collected.length >= SECONDS * this.rate) this.finish(this.collected);
  }

  /** Throw away what is being recorded: sound was lost in it. */
  lose() {
    this.collected = new Float32Array(0);
  }

  stop() {
    if (this.run) this.end("Stopped.");
  }

  async recordTakes() {
    const word = this.form.word.value.normalize("NFC");
    const speaker = this.form.speaker.value;
    const kept = () => this.takes.filter((take) => take.word === word && take.speaker === speaker).length;
    if (!await this.listen()) return;
    const run = this.run = {};
    this.record.textContent = "Stop recording";
    for (let note = ""; kept() < COUNT;) {
      this.prompt.textContent = `${note}Say “${word}”, ${kept() + 1} of ${COUNT}.`;
      await new Promise((resolve) => { setTimeout(resolve, PROMPT); });
      const sound = this.run === run && await this.collect();
      if (!sound) return; // it was stopped, and may have been started again
      const { samples, level, fault } = cutTake(sound, this.rate);
      note = fault ? `${fault} ` : "";
      if (!fault) this.add({ word, speaker, samples, level, rate: this.rate });
    }
    this.end(`${COUNT} takes of “${word}” are recorded.`);
  }

  end(text) {
    this.run = null;
    this.finish(null);
    this.prompt.textContent = text;
    this.record.textContent = "Record ten takes";
  }

  /** @returns {Promise<Float32Array | null>} the next seconds that are heard; null if the listening ends */
  collect() {
    this.collected = new Float32Array(0);
    this.now.hidden = false;
    return new Promise((resolve) => { this.done = resolve; });
  }

  finish(sound) {
    this.now.hidden = true;
    this.done?.(sound);
    this.done = null;
  }

  add(take) {
    take.name = `${take.word}/${take.speaker}_nohash_${this.number}.wav`;
    this.number += 1;
    this.takes.push(take);
    const item = document.createElement("li");
    const text = document.createElement("span");
    text.textContent = `${take.name}, ${Math.round(take.level)} dB`;
    const play = button("Hear", take.name, () => hearAgain(take));
    const remove = button("Delete", take.name, () => {
      this.takes.splice(this.takes.indexOf(take), 1);
      item.remove();
      this.all.disabled = !this.takes.length;
      this.record.focus(); // the button that had it is gone
    });
    item.append(text, play, remove);
    this.list.append(item);
    this.all.disabled = false;
  }

  save() {
    const files = this.takes.map(({ name, samples, rate }) => ({ name, content: wave(samples, rate) }));
    save("takes.zip", zip(files, new Date()), "application/zip");
  }
}

function button(text, name, onClick) {
  const made = Object.assign(document.createElement("button"), { type: "button", textContent: text });
  made.setAttribute("aria-label", `${text} ${name}`);
  made.addEventListener("click", onClick);
  return made;
}

/** @param {{samples: Float32Array, rate: number}} take */
function hearAgain({ samples, rate }) {
  const context = new AudioContext();
  const buffer = new AudioBuffer({ length: samples.length, sampleRate: rate });
  buffer.copyToChannel(samples, 0);
  const source = new AudioBufferSourceNode(context, { buffer });
  source.connect(context.destination);
  source.onended = () => context.close();
  source.start();
}
