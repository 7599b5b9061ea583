/**
 * The worker that hears: sound in, what the page shows out. Nothing that takes time runs beside the page's drawing.
 *
 * In:  {do: "load", file, name} · {do: "start", id, rate, microphone?} · {do: "samples", samples} · {do: "finish"}
 *      {do: "stop"} · {do: "rule", rule}
 * Out: {is: "model", facts, name} · {is: "refused", message}
 *      {is: "heard", samples, columns, best, detections, seconds} · {is: "lost", seconds}
 *      {is: "done"} after samples and finish · {is: "failed", message}
 *      What is of a sound has its id in `of`.
 * A microphone is the port on which capture.js sends {samples, at}.
 */
import { Listener } from "./listener.js";
import { LossWatch } from "./loss.js";
import { MelColumns } from "./mel.js";
import { StreamModel } from "./model.js";
import { Resampler } from "./resampler.js";

const MOST_WAITING = 5; // seconds of sound; a computer that is further behind will not catch up

/** @type {StreamModel} */ let model;
/** @type {import("./detector.js").Rule} */ let rule;
/** @type {Source | null} */ let source = null;
let work = Promise.resolve(); // what is done one after the other

/** One sound, from its start to its end. */
class Source {
  constructor(id, rate, microphone) {
    this.id = id;
    this.rate = rate;
    this.listener = new Listener(model, rule);
    this.columns = new MelColumns(model.facts.sample_rate, model.facts.step_samples);
    this.resampler = new Resampler(rate, model.facts.sample_rate);
    this.watch = new LossWatch(rate);
    this.waiting = 0; // seconds
    this.heard = 0; // seconds, lost ones with them
    this.microphone = microphone;
    if (microphone) microphone.onmessage = ({ data }) => this.arrive(data);
  }

  /** Take sound as the microphone delivers it. */
  arrive({ samples, at }) {
    let lost = this.watch.lost(samples.length, at);
    const seconds = samples.length / this.rate;
    if (this.waiting > MOST_WAITING) lost += seconds;
    else this.waiting += seconds;
    if (lost) inTurn(() => this.lose(lost));
    if (lost < seconds) inTurn(() => this.hear(samples).then(() => { this.waiting -= seconds; }));
  }

  /** Go on after a gap: what was said across it cannot be known. */
  lose(seconds) {
    this.heard += seconds;
    this.resampler = new Resampler(this.rate, model.facts.sample_rate);
    this.listener.reset(this.heard);
    this.tell({ is: "lost", seconds });
  }

  /** @param {Float32Array} samples at the source's rate */
  async hear(samples) {
    const own = this.resampler.feed(samples);
    this.heard += samples.length / this.rate;
    this.report(own, await this.listener.feed(own));
  }

  async finish() {
    await this.hear(new Float32Array(this.resampler.half));
    this.report(new Float32Array(0), await this.listener.finish());
  }

  report(samples, detections) {
    const best = this.listener.detector.best;
    this.tell({ is: "heard", samples, columns: this.columns.feed(samples), best, detections, seconds: this.heard });
  }

  tell(message) {
    postMessage({ ...message, of: this.id });
  }

  close() {
    if (this.microphone) this.microphone.close();
  }
}

const commands = {
  async load({ file, name }) {
    try {
      model = await StreamModel.load(file, name);
      rule = model.facts.rule;
      postMessage({ is: "model", facts: model.facts, name });
    } catch (error) {
      postMessage({ is: "refused", message: error.message });
    }
  },
  start({ id, rate, microphone }) {
    source?.close();
    source = new Source(id, rate, microphone);
  },
  async samples({ samples }) {
    await source.hear(samples);
    source.tell({ is: "done" });
  },
  async finish() {
    await source.finish();
    source.tell({ is: "done" });
  },
  stop() {
    source?.close();
    source = null;
  },
  rule(message) {
    rule = message.rule;
    source?.listener.detector.useRule(rule);
  },
};

/** Do something after all that came before. */
function inTurn(task) {
  work = work.then(task).catch((error) => postMessage({ is: "failed", message: String(error.message ?? error) }));
}

onmessage = ({ data }) => inTurn(() => commands[data.do](data));
