/** One take: the second of sound around a word, and whether it can be used. */

const SECONDS = 1; // of a take, as the recordings of Speech Commands have
const HOP = 0.02; // seconds
const [QUIET_DB, ABOVE_NOISE_DB, BELOW_PEAK_DB] = [-40, 10, 25];
const FULL = 0.999;
const MOST_FULL = 3; // samples at full scale by chance

/**
 * Cut a take out of sound in which a word was said.
 * @param {Float32Array} sound [T]
 * @param {number} rate in Hz
 * @returns {{samples: Float32Array, level: number, fault: string}} level: of the loudest sample, in dB of full scale;
 *   fault: what is wrong, for the speaker, or ""
 */
export function cutTake(sound, rate) {
  const hop = Math.round(HOP * rate);
  const powers = Array.from({ length: Math.floor(sound.length / hop) }, (_, n) => (
    decibel(sound.subarray(n * hop, (n + 1) * hop).reduce((sum, value) => sum + value * value, 0) / hop)));
  const loudest = Math.max(...powers);
  const noise = [...powers].sort((a, b) => a - b)[Math.floor(powers.length / 10)];
  const least = Math.max(loudest - BELOW_PEAK_DB, noise + ABOVE_NOISE_DB / 2);
  const first = powers.findIndex((power) => power >= least);
  const last = powers.findLastIndex((power) => power >= least);
  const length = SECONDS * rate;
  const start = Math.round(Math.min(Math.max(((first + last + 1) * hop - length) / 2, 0), sound.length - length));
  const samples = sound.slice(start, start + length);
  const peak = samples.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return { samples, level: decibel(peak ** 2), fault: faultOf() };

  function faultOf() {
    if (loudest < QUIET_DB) return "Nothing was heard: speak louder, or nearer to the microphone.";
    if (loudest - noise < ABOVE_NOISE_DB) return "Too much noise around the word.";
    if (samples.filter((value) => Math.abs(value) >= FULL).length > MOST_FULL) return "Too loud: move away a little.";
    if (last >= powers.length - 1) return "The end is missing: speak a little sooner.";
    if ((last + 1 - first) * hop > length) return "Longer than a second: say the word alone.";
    return "";
  }
}

const decibel = (power) => 10 * Math.log10(power + 1e-12);
