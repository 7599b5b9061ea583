/**
 * Changes the rate of running sound by a windowed sinc, in pieces of any size. Browsers have resamplers, but Firefox
 * refuses to join a microphone to an AudioContext of another rate, and none says how good its own is.
 */
import { joined } from "./listener.js";

const CROSSINGS = 64; // of zero on each side, at the lower rate: the pass band ends 8 % below its half
const BETA = 7.86; // of Kaiser's window: what lies above half the lower rate is 80 dB down
const TRANSITION = 72 / (2.285 * 2 * Math.PI * 2 * CROSSINGS); // Kaiser's formula for 80 dB; 1 is the lower rate

export class Resampler {
  /** @param {number} from rate in Hz, whole @param {number} to likewise */
  constructor(from, to) {
    const common = divisor(from, to);
    this.up = to / common;
    this.down = from / common;
    const scale = Math.min(1, to / from);
    this.half = Math.ceil(CROSSINGS / scale);
    this.filters = Array.from({ length: this.up }, (_, phase) => sinc(phase / this.up, this.half, scale));
    this.reset();
  }

  /** Forget what was fed. */
  reset() {
    this.pending = new Float32Array(this.half - 1); // silence before the first sample
    this.phase = 0; // of the next output sample, after the pending sample `half - 1`, in parts of `up`
  }

  /** @param {Float32Array} samples [T] @returns {Float32Array} what they complete, `half` samples of the input later */
  feed(samples) {
    if (this.up === this.down) return samples;
    const pending = joined(this.pending, samples);
    const last = pending.length - 2 * this.half; // where a filter may begin
    const count = Math.max(Math.floor(((last + 1) * this.up - 1 - this.phase) / this.down) + 1, 0);
    const output = new Float32Array(count);
    for (let index = 0; index < count; index++) {
      const place = this.phase + index * this.down;
      const first = Math.floor(place / this.up);
      const filter = this.filters[place % this.up];
      let sum = 0;
      for (let tap = 0; tap < filter.length; tap++) sum += filter[tap] * pending[first + tap];
      output[index] = sum;
    }
    const next = this.phase + count * this.down;
    const used = Math.min(Math.floor(next / this.up), pending.length);
    this.phase = next - used * this.up;
    this.pending = pending.slice(used);
    return output;
  }
}

/** The filter for an output sample that lies `offset` (0..1) after the input sample `half - 1` of `2 * half`. */
function sinc(offset, half, scale) {
  const cutoff = scale * (1 - TRANSITION); // twice the middle of the transition, in parts of the input's rate
  const filter = Float64Array.from({ length: 2 * half }, (_, tap) => {
    const time = tap - (half - 1) - offset;
    const window = bessel(BETA * Math.sqrt(Math.max(1 - (time / half) ** 2, 0))) / bessel(BETA);
    return (time === 0 ? 1 : Math.sin(Math.PI * cutoff * time) / (Math.PI * cutoff * time)) * window;
  });
  const sum = filter.reduce((total, value) => total + value, 0);
  return filter.map((value) => value / sum); // a constant keeps its level exactly
}

/** Modified Bessel function of the first kind, order 0. */
function bessel(value) {
  let [sum, term] = [1, 1];
  for (let order = 1; term > 1e-12 * sum; order++) sum += term *= (value / 2 / order) ** 2;
  return sum;
}

const divisor = (first, second) => (second ? divisor(second, first % second) : first);
