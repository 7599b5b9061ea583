/**
 * From logits per frame to one event per utterance: kws/inference/detector.py, which explains the rule, in JavaScript.
 * Golden vectors hold both to the same answers (tests/web).
 *
 * @typedef {{threshold: number, thresholds: Object<string, number>, smoothing_seconds: number,
 *   refractory_seconds: number, other_refractory_seconds: number, word_seconds: number}} Rule thresholds in log-odds
 * @typedef {{word: string, start_s: number, end_s: number, time_s: number, confidence: number}} Detection
 */

const LEAST = 1e-9; // of a probability and of what it lacks to 1
const RULE = {
  threshold: 1.4, thresholds: {}, smoothing_seconds: 0.4, refractory_seconds: 1.0, other_refractory_seconds: 0.3,
  word_seconds: 0.5,
};
const SILENCE = "_silence_";

/**
 * Read the rule as it travels with a model.
 * @param {Object} document
 * @returns {Rule}
 * @throws {RangeError} for another key, or a number out of range
 */
export function ruleFrom(document) {
  const unknown = Object.keys(document).find((key) => !Object.hasOwn(RULE, key));
  if (unknown) throw new RangeError(`detector: unknown key ${unknown}`);
  const rule = { ...RULE, ...document };
  for (const [name, value] of Object.entries(rule)) {
    if (name.endsWith("_seconds") && !(value >= 0 && value <= 60)) {
      throw new RangeError(`${name}: found ${value}; expected 0 to 60 s`);
    }
  }
  for (const [word, value] of Object.entries({ threshold: rule.threshold, ...rule.thresholds })) {
    if (!Number.isFinite(value)) throw new RangeError(`${word}: found ${value}; expected a finite threshold`);
  }
  return rule;
}

/** The threshold of a word, in log-odds. @param {Rule} rule @param {string} word */
export function thresholdOf({ thresholds, threshold }, word) {
  return Object.hasOwn(thresholds, word) ? thresholds[word] : threshold; // "constructor" may be a word
}

/** Turn a probability into log-odds. @param {number} probability */
export function scoreOf(probability) {
  const clipped = Math.min(Math.max(probability, LEAST), 1 - LEAST);
  return Math.log(clipped) - Math.log1p(-clipped);
}

/** Turn log-odds into a probability. @param {number} score */
export const confidenceOf = (score) => 1 / (1 + Math.exp(-score));

/** Turns logits per frame into detections: one frame at a time or many, with the same result. */
export class Detector {
  /**
   * @param {string[]} labels C of the model: K keywords, `_unknown_`, `_silence_`
   * @param {number} frameSeconds from one row of logits to the next
   * @param {number} firstSeconds of sound that the first row needs
   * @param {Rule} rule
   */
  constructor(labels, frameSeconds, firstSeconds, rule) {
    this.labels = labels;
    this.keywords = labels.slice(0, -2);
    this.frameSeconds = frameSeconds;
    this.firstSeconds = firstSeconds;
    this.useRule(rule);
    this.window = Math.max(this.framesOf(rule.smoothing_seconds), 1);
    this.reset();
  }

  /** Judge the next frames by other thresholds; the smoothing stays. @param {Rule} rule */
  useRule(rule) {
    this.rule = rule;
    this.thresholds = this.keywords.map((word) => thresholdOf(rule, word));
  }

  /** Forget what was heard; the next row of logits is the first one. */
  reset() {
    this.frames = 0;
    const silence = this.labels.map((label) => (label === SILENCE ? 1 : 0));
    this.recent = Array.from({ length: this.window - 1 }, () => silence); // before the first frame nothing was said
    this.silentUntil = this.keywords.map(() => 0); // first frame that may count again
    this.released = this.keywords.map(() => true); // its score was below since its last event
    this.best = this.keywords.map(() => 0);
  }

  /**
   * Take the next rows of logits; return the detections they complete, in order.
   * `best` is then the highest smoothed probability of each keyword in them.
   * @param {ArrayLike<number>} logits [n * C], row by row
   * @returns {Detection[]}
   * @throws {RangeError} if the length does not fit the labels or a logit is NaN or infinite
   */
  feed(logits) {
    const width = this.labels.length;
    if (logits.length % width) throw new RangeError(`${logits.length} logits; expected rows of ${width}`);
    const detections = [];
    this.best = this.keywords.map(() => 0);
    for (let start = 0; start < logits.length; start += width) {
      const confidences = this.smooth(softmax(Array.from({ length: width }, (_, label) => logits[start + label])));
      this.keywords.forEach((_, word) => { this.best[word] = Math.max(this.best[word], confidences[word]); });
      const found = this.decide(confidences);
      if (found) detections.push(found);
      this.frames += 1;
    }
    return detections;
  }

  /** Average a row of probabilities with those before it. */
  smooth(row) {
    const rows = [...this.recent, row];
    this.recent = rows.slice(1);
    return row.map((_, label) => rows.reduce((sum, one) => sum + one[label], 0) / this.window);
  }

  /** Report the word that is furthest above its threshold, if it may be reported now. */
  decide(confidences) {
    let word = -1;
    let furthest = -Infinity;
    this.keywords.forEach((_, index) => {
      const margin = scoreOf(confidences[index]) - this.thresholds[index];
      const free = this.released[index] && this.frames >= this.silentUntil[index];
      if (margin < 0) this.released[index] = true;
      else if (free && margin > furthest) [word, furthest] = [index, margin];
    });
    if (word < 0) return null;
    const other = this.frames + this.framesOf(this.rule.other_refractory_seconds);
    this.silentUntil = this.silentUntil.map((frame) => Math.max(frame, other));
    this.silentUntil[word] = Math.max(other, this.frames + this.framesOf(this.rule.refractory_seconds));
    this.released[word] = false;
    const time = this.firstSeconds + this.frames * this.frameSeconds;
    const end = Math.max(time - this.rule.smoothing_seconds / 2, 0);
    const start = Math.max(end - this.rule.word_seconds, 0);
    return { word: this.keywords[word], start_s: start, end_s: end, time_s: time, confidence: confidences[word] };
  }

  framesOf(seconds) {
    return roundHalfEven(seconds / this.frameSeconds);
  }
}

/** Softmax of a row, safe for logits of any finite size. @param {number[]} row */
function softmax(row) {
  if (!row.every(Number.isFinite)) throw new RangeError("a logit is NaN or infinite");
  const most = Math.max(...row);
  const powers = row.map((logit) => Math.exp(logit - most));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}

/** Round as Python does. @param {number} value */
function roundHalfEven(value) {
  const below = Math.floor(value);
  const rest = value - below;
  return rest > 0.5 || (rest === 0.5 && below % 2) ? below + 1 : below;
}
