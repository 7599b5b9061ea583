/**
 * One source of sound, heard from its start: `Listener` of kws/inference/listening.py in JavaScript.
 *
 * @typedef {import("./model.js").StreamModel} StreamModel
 * @typedef {import("./detector.js").Detection} Detection
 */
import { Detector } from "./detector.js";

// Rows of logits a call, as in Python: so many as soon as they are there, several times as many where a chunk has them.
export const ROWS = 5;
const MOST_ROWS = 200;

export class Listener {
  /**
   * @param {StreamModel} model
   * @param {import("./detector.js").Rule} rule
   */
  constructor(model, rule) {
    this.model = model;
    const { labels, step_samples, sample_rate, lead_samples, delay_rows } = model.facts;
    const step = step_samples / sample_rate;
    // A row is known at the end of its step; the zeros that lead belong to no time.
    this.detector = new Detector(labels, step, (delay_rows + 1) * step - lead_samples / sample_rate, rule);
    this.reset();
  }

  /** Forget what was heard; the next sample is the first one, and comes at this time. */
  reset(atSeconds = 0) {
    this.detector.reset();
    this.startsAt = atSeconds;
    this.state = new Float32Array(this.model.facts.state_size);
    this.pending = new Float32Array(this.model.facts.lead_samples);
    this.skip = this.model.facts.delay_rows;
  }

  /**
   * Hear the next samples; return what they complete. One call at a time.
   * @param {Float32Array} samples [T] mono at the model's rate, -1..1; NaN and infinite ones count as silence
   * @returns {Promise<Detection[]>}
   */
  async feed(samples) {
    const { step_samples, labels } = this.model.facts;
    const size = ROWS * step_samples;
    const pending = joined(this.pending, samples.map(usable));
    const whole = pending.length - (pending.length % size);
    this.pending = pending.slice(whole);
    const detections = [];
    for (let start = 0; start < whole; start += MOST_ROWS * step_samples) {
      const piece = pending.subarray(start, Math.min(start + MOST_ROWS * step_samples, whole));
      const { logits, state } = await this.model.step(piece, this.state);
      this.state = state;
      const skipped = Math.min(this.skip, logits.length / labels.length);
      this.skip -= skipped;
      detections.push(...this.detector.feed(logits.subarray(skipped * labels.length)));
    }
    return detections.map((found) => later(found, this.startsAt));
  }

  /** End the sound: let silence follow until all of it was heard; return what that completes. */
  finish() {
    const { delay_rows, step_samples, lead_samples } = this.model.facts;
    return this.feed(new Float32Array((delay_rows + 1 + ROWS) * step_samples - lead_samples));
  }
}

/** @param {Float32Array} first @param {Float32Array} second */
export function joined(first, second) {
  const all = new Float32Array(first.length + second.length);
  all.set(first);
  all.set(second, first.length);
  return all;
}

const usable = (sample) => (Number.isFinite(sample) ? Math.min(Math.max(sample, -1), 1) : 0);

/** @param {Detection} found @param {number} seconds @returns {Detection} */
function later(found, seconds) {
  const times = { start_s: found.start_s + seconds, end_s: found.end_s + seconds, time_s: found.time_s + seconds };
  return { ...found, ...times };
}
