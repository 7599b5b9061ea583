/**
 * Tells sound that never came: a busy computer, a phone that slept, a microphone that was taken away for a moment. No
 * browser says so for all of these, but pieces that are short of the clock do.
 */
const WINDOW = 1; // seconds: a piece may be late by chance, but not all of this time
const LEAST = 0.1; // seconds; less is the drift of two clocks

export class LossWatch {
  /** @param {number} rate of the samples, in Hz */
  constructor(rate) {
    this.rate = rate;
    this.arrived = 0; // seconds of sound
    this.known = null; // the delay that is usual
    this.open(0);
  }

  open(start) {
    this.start = start;
    this.least = Infinity;
  }

  /**
   * Take note of a piece.
   * @param {number} count of its samples
   * @param {number} at when it came, in seconds of any clock
   * @returns {number} seconds that were lost since the last loss; 0 mostly
   */
  lost(count, at) {
    this.arrived += count / this.rate;
    this.least = Math.min(this.least, at - this.arrived);
    if (this.known === null) {
      [this.known, this.start] = [this.least, at];
      return 0;
    }
    if (at - this.start < WINDOW) return 0;
    const late = this.least - this.known;
    this.known = this.least;
    this.open(at);
    if (late < LEAST) return 0;
    this.arrived += late;
    this.known -= late;
    return late;
  }
}
