/** One sound that the worker hears, from its start to its end. */
import { Listener } from "./listener.js";
import { LossWatch } from "./loss.js";
import { MelColumns } from "./mel.js";
import { Resampler } from "./resampler.js";

const MOST_WAITING = 5; // seconds of sound; a computer that is further behind will not catch up
const FEW_WAITING = 1; // seconds, down to which it then drops sound at a stretch: words need some time without a gap
const STALLED = 3; // seconds without a piece; browsers do not always tell of a microphone that gives nothing any more

export class Source {
  /**
   * @param {import("./model.js").StreamModel} model
   * @param {import("./detector.js").Rule} rule
   * @param {number} rate of its samples, in Hz
   * @param {{tell: (message: Object) => void, inTurn: (task: () => unknown) => void}} worker tells the page; does
   *   something after all that came before
   * @param {MessagePort} [microphone] on which capture.js sends {samples, at}
   */
  constructor(model, rule, rate, { tell, inTurn }, microphone) {
    Object.assign(this, { rate, tell, inTurn, microphone });
    this.ownRate = model.facts.sample_rate;
    this.listener = new Listener(model, rule);
    this.columns = new MelColumns(this.ownRate, model.facts.step_samples);
    this.resampler = new Resampler(rate, this.ownRate);
    this.watch = new LossWatch(rate);
    this.waiting = 0; // seconds
    this.isLate = false;
    this.heard = 0; // seconds, lost ones with them
    if (!microphone) return;
    microphone.onmessage = ({ data }) => this.arrive(data);
    this.expectMore();
  }

  /** Take sound as the microphone delivers it. */
  arrive({ samples, at }) {
    this.expectMore();
    const seconds = samples.length / this.rate;
    this.isLate = this.waiting > (this.isLate ? FEW_WAITING : MOST_WAITING);
    const lost = this.watch.lost(samples.length, at) + (this.isLate ? seconds : 0);
    if (lost) this.inTurn(() => this.lose(lost));
    if (this.isLate) return;
    this.waiting += seconds;
    this.inTurn(() => this.hear(samples).finally(() => { this.waiting -= seconds; }));
  }

  /** Tell if nothing more comes, and when it comes again. */
  expectMore() {
    if (this.isStalled) this.tellStalled(false);
    clearTimeout(this.alarm);
    this.alarm = setTimeout(() => this.tellStalled(true), 1000 * STALLED);
  }

  tellStalled(isStalled) {
    this.isStalled = isStalled;
    this.tell({ is: "stalled", isStalled });
  }

  /** Go on after a gap: what was said across it cannot be known. */
  lose(seconds) {
    this.heard += seconds;
    this.resampler.reset();
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

  close() {
    clearTimeout(this.alarm);
    this.microphone?.close();
  }
}
