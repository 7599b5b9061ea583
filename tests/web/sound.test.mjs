import assert from "node:assert/strict";
import { test } from "node:test";
import { LossWatch } from "../../kws/web/page/loss.js";
import { BANDS, MelColumns } from "../../kws/web/page/mel.js";
import { Resampler } from "../../kws/web/page/resampler.js";
import { cutTake } from "../../kws/web/page/take.js";

const RATE = 16000;
const tone = (hz, rate, seconds, level = 0.5) => (
  Float32Array.from({ length: Math.round(rate * seconds) }, (_, n) => level * Math.sin((2 * Math.PI * hz * n) / rate)));
const rms = (samples) => Math.sqrt(samples.reduce((sum, value) => sum + value * value, 0) / samples.length);
const decibel = (ratio) => 20 * Math.log10(ratio + 1e-12);
const middle = (samples) => samples.slice(samples.length / 4, (3 * samples.length) / 4);

/** Resample all, ended as the page ends a sound. */
function resampled(samples, from, to = RATE, size = samples.length) {
  const resampler = new Resampler(from, to);
  const pieces = [];
  const all = Float32Array.of(...samples, ...new Float32Array(resampler.half));
  for (let first = 0; first < all.length; first += size) pieces.push(...resampler.feed(all.slice(first, first + size)));
  return Float32Array.from(pieces);
}

for (const from of [8000, 11025, 22050, 44100, 48000, 96000]) {
  test(`from ${from} Hz tones keep level and place`, () => {
    for (const hz of [100, 1000, 3000, 7000].filter((pitch) => pitch < 0.44 * Math.min(from, RATE))) {
      const [found, expected] = [resampled(tone(hz, from, 0.4), from), tone(hz, RATE, 0.4)];
      assert.ok(Math.abs(found.length - expected.length) <= 1, `${found.length} samples, not ${expected.length}`);
      const wanted = middle(expected);
      const error = middle(found).map((value, n) => value - wanted[n]);
      assert.ok(decibel(rms(error) / rms(expected)) < -60, `${hz} Hz: ${decibel(rms(error) / rms(expected))} dB off`);
    }
  });
}

for (const from of [22050, 44100, 48000, 96000]) {
  test(`from ${from} Hz nothing folds back`, () => {
    for (const hz of [8050, 8500, 9500, 10900].filter((pitch) => pitch < from / 2)) {
      const folded = decibel(rms(middle(resampled(tone(hz, from, 0.4), from))) / rms(tone(hz, from, 0.4)));
      assert.ok(folded < -70, `${hz} Hz: ${folded} dB`);
    }
  });
}

test("from 8000 Hz nothing is mirrored", () => {
  const expected = tone(3000, RATE, 0.5);
  const residue = resampled(tone(3000, 8000, 0.4), 8000).map((value, n) => value - expected[n]);
  assert.ok(decibel(rms(middle(residue)) / 0.35) < -60);
});

test("pieces of any size make the same samples", () => {
  for (const from of [44100, 48000, 8000]) {
    const samples = tone(440, from, 0.05);
    for (const size of [1, 7, 128, 1024]) {
      assert.deepEqual(resampled(samples, from, RATE, size), resampled(samples, from));
    }
  }
});

test("the model's own rate is left alone", () => {
  const samples = tone(440, RATE, 0.1);
  assert.equal(new Resampler(RATE, RATE).feed(samples), samples);
});

test("a constant keeps its level, after the filter's rise", () => {
  const found = resampled(new Float32Array(4410).fill(0.25), 44100);
  for (const value of middle(found)) assert.ok(Math.abs(value - 0.25) < 1e-6);
});

/** Losses told for pieces of 20 ms that come at these times. */
function losses(times) {
  const watch = new LossWatch(1000);
  return times.map((at) => watch.lost(20, at)).filter(Boolean);
}

test("lateness that is made up for is no loss", () => {
  const times = Array.from({ length: 500 }, (_, n) => 5 + n * 0.02 + (n % 40 < 30 ? 0.02 * (n % 40) / 2 : 0));
  assert.deepEqual(losses(times), []);
});

test("clocks that drift by 200 ppm lose nothing in an hour", () => {
  assert.deepEqual(losses(Array.from({ length: 180_000 }, (_, n) => n * 0.02 * 1.0002)), []);
});

test("a gap is told once, by its length", () => {
  const times = Array.from({ length: 500 }, (_, n) => n * 0.02 + (n >= 100 ? 0.5 : 0) + (n >= 300 ? 30 : 0));
  const found = losses(times);
  assert.equal(found.length, 2);
  assert.ok(Math.abs(found[0] - 0.5) < 1e-6 && Math.abs(found[1] - 30) < 1e-6, String(found));
});

test("a piece that is late at the start hides no loss", () => {
  const times = Array.from({ length: 500 }, (_, n) => (n ? n * 0.02 : 0.3) + (n >= 300 ? 0.2 : 0));
  assert.equal(losses(times).length, 1);
});

test("columns show a tone in its band, silence nowhere", () => {
  const columns = new MelColumns(RATE, 320).feed(tone(1000, RATE, 1));
  assert.equal(columns.length, 50 * BANDS);
  const last = [...columns.subarray(49 * BANDS)];
  const mel = (hz) => Math.log10(1 + hz / 700);
  const expected = ((mel(1000) - mel(60)) / (mel(8000) - mel(60))) * BANDS;
  assert.ok(Math.abs(last.indexOf(Math.max(...last)) - expected) < 2 && last.at(-1) === 0 && last[0] < 10);
  assert.ok(new MelColumns(RATE, 320).feed(new Float32Array(RATE)).every((value) => value === 0));
});

test("steps longer than a column's window have a column each", () => {
  const columns = new MelColumns(44100, 882);
  const pieces = Array.from({ length: 100 }, () => columns.feed(tone(1000, 44100, 0.01)));
  assert.equal(pieces.reduce((count, piece) => count + piece.length, 0), 50 * BANDS);
});

/** Two seconds with noise, and a tone from one time to another. */
function spoken(from, to, level = 0.3, noise = 0.001) {
  let seed = 1;
  const random = () => { seed = (seed * 16807) % 2147483647; return seed / 1073741824 - 1; };
  return Float32Array.from({ length: 2 * RATE }, (_, n) => (
    noise * random() + (n >= from * RATE && n < to * RATE ? level * Math.sin(n / 3) : 0)));
}

test("a take is the second around the word", () => {
  for (const [from, to] of [[0.2, 0.5], [0.6, 1.2], [1.4, 1.9]]) {
    const sound = spoken(from, to);
    const { samples, level, fault } = cutTake(sound, RATE);
    assert.equal(fault, "");
    assert.equal(samples.length, RATE);
    assert.ok(Math.abs(level - decibel(0.3)) < 0.3);
    assert.ok(Math.abs(rms(samples) ** 2 - (to - from) * 0.045) < 0.002, "all of it is there");
  }
});

test("takes that cannot be used are told", () => {
  const fault = (...how) => cutTake(spoken(...how), RATE).fault;
  assert.match(fault(0.5, 1, 0.003), /Nothing was heard/);
  assert.match(fault(0.5, 1, 0.05, 0.3), /Too much noise/);
  assert.match(fault(0.5, 1, 1.0), /Too loud/);
  assert.match(fault(1.5, 2), /The end is missing/);
  assert.match(fault(0.3, 1.7), /Longer than a second/);
});
