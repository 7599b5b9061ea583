/** Columns of the picture: power in bands that are as wide as hearing has them, once every hop. For the eye only. */
import { joined } from "./listener.js";

export const BANDS = 64;
const WINDOW = 512;
const [LEAST_DB, MOST_DB] = [-85, -15]; // of full scale, in a band

const ANGLES = Array.from({ length: WINDOW }, (_, n) => (2 * Math.PI * n) / WINDOW);
const [COSINES, SINES] = [ANGLES.map(Math.cos), ANGLES.map(Math.sin)];

export class MelColumns {
  /** @param {number} rate in Hz @param {number} hop in samples */
  constructor(rate, hop) {
    this.hop = hop;
    this.size = Math.max(WINDOW, hop); // of what a column stands for
    this.pending = new Float32Array(this.size - hop);
    this.window = Float32Array.from(COSINES, (cosine) => 0.5 - 0.5 * cosine);
    this.edges = bandEdges(rate);
  }

  /** @param {Float32Array} samples [T] @returns {Uint8Array} [n * BANDS], low bands first; 0 is silence, 255 loud */
  feed(samples) {
    const pending = joined(this.pending, samples);
    const count = Math.max(Math.floor((pending.length - this.size) / this.hop) + 1, 0);
    const columns = new Uint8Array(count * BANDS);
    for (let column = 0; column < count; column++) {
      const real = this.window.map((weight, n) => weight * pending[column * this.hop + n]);
      columns.set(this.bands(powers(real)), column * BANDS);
    }
    this.pending = pending.slice(count * this.hop);
    return columns;
  }

  /** Take the mean of each band's bins. */
  bands(power) {
    return Uint8Array.from({ length: BANDS }, (_, band) => {
      const [first, end] = [this.edges[band], Math.max(this.edges[band + 1], this.edges[band] + 1)];
      let sum = 0;
      for (let bin = first; bin < end; bin++) sum += power[bin];
      const decibel = 10 * Math.log10(sum / (end - first) + 1e-12);
      return Math.round(255 * Math.min(Math.max((decibel - LEAST_DB) / (MOST_DB - LEAST_DB), 0), 1));
    });
  }
}

/** First bins of bands of equal width in mel, from 60 Hz to half the rate. */
function bandEdges(rate) {
  const mel = (hz) => 2595 * Math.log10(1 + hz / 700);
  const hz = (value) => 700 * (10 ** (value / 2595) - 1);
  const [low, high] = [mel(60), mel(rate / 2)];
  return Array.from({ length: BANDS + 1 }, (_, band) => (
    Math.round((hz(low + ((high - low) * band) / BANDS) / rate) * WINDOW)));
}

/** Powers of the bins of a real signal, by the fast Fourier transform of base 2; a tone of full scale has 1. */
function powers(real) {
  const imaginary = new Float32Array(WINDOW);
  for (let n = 1, reversed = 0; n < WINDOW; n++) {
    let bit = WINDOW >> 1;
    for (; reversed & bit; bit >>= 1) reversed ^= bit;
    reversed ^= bit;
    if (n < reversed) [real[n], real[reversed]] = [real[reversed], real[n]];
  }
  for (let size = 2; size <= WINDOW; size *= 2) {
    for (let k = 0; k < size / 2; k++) {
      const [cosine, sine] = [COSINES[(k * WINDOW) / size], -SINES[(k * WINDOW) / size]];
      for (let first = k; first < WINDOW; first += size) {
        const second = first + size / 2;
        const re = real[second] * cosine - imaginary[second] * sine;
        const im = real[second] * sine + imaginary[second] * cosine;
        [real[second], imaginary[second]] = [real[first] - re, imaginary[first] - im];
        [real[first], imaginary[first]] = [real[first] + re, imaginary[first] + im];
      }
    }
  }
  return Float32Array.from({ length: WINDOW / 2 + 1 }, (_, bin) => (
    (real[bin] ** 2 + imaginary[bin] ** 2) / (WINDOW / 4) ** 2));
}
