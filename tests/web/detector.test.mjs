import assert from "node:assert/strict";
import { test } from "node:test";
import { confidenceOf, Detector, ruleFrom, scoreOf } from "../../kws/web/page/detector.js";
import { Listener } from "../../kws/web/page/listener.js";
import { golden, Mean } from "./mean.mjs";

const { labels, frame_seconds, first_seconds } = golden;
const detectorOf = (rule) => new Detector(labels, frame_seconds, first_seconds, ruleFrom(rule));

function same(found, expected) {
  assert.deepEqual(found.map(({ word }) => word), expected.map(({ word }) => word));
  for (const [index, item] of expected.entries()) {
    for (const key of ["start_s", "end_s", "time_s", "confidence"]) {
      assert.ok(Math.abs(found[index][key] - item[key]) < 1e-9, `${key}: ${found[index][key]}, not ${item[key]}`);
    }
  }
}

for (const { name, rule, logits, detections } of golden.cases) {
  for (const rows of [1, 7, 1000]) {
    test(`${name}, ${rows} rows at a time`, () => {
      const detector = detectorOf(rule);
      const found = [];
      for (let row = 0; row < logits.length / labels.length; row += rows) {
        found.push(...detector.feed(logits.slice(row * labels.length, (row + rows) * labels.length)));
      }
      same(found, detections);
      detector.reset();
      same(detector.feed(logits), detections);
    });
  }
}

test("thresholds change while it listens, and the smoothing goes on", () => {
  const { logits, detections } = golden.cases.find(({ name }) => name === "a word");
  const detector = detectorOf({ threshold: 15 });
  const half = 50 * labels.length;
  assert.deepEqual(detector.feed(logits.slice(0, half)), []);
  detector.useRule(ruleFrom({}));
  same(detector.feed(logits.slice(half)), detections);
});

test("a keyword may have the name of something that every object has", () => {
  const word = (name) => new Detector([name, "_unknown_", "_silence_"], 0.02, 0.6, ruleFrom({ thresholds: {} }));
  const logits = Array.from({ length: 50 }, () => [9, 0, 0]).flat();
  const found = (name) => word(name).feed(logits).map((one) => one.word);
  assert.deepEqual(found("builder"), ["builder"]);
  assert.deepEqual(found("constructor"), ["constructor"]);
  assert.throws(() => ruleFrom({ constructor: 1 }), /unknown key constructor/);
});

test("logits that are no numbers, or no rows, are refused", () => {
  assert.throws(() => detectorOf({}).feed([0, 0, NaN, 0, 0]), /NaN or infinite/);
  assert.throws(() => detectorOf({}).feed([0, 0, Infinity, 0, 0]), /NaN or infinite/);
  assert.throws(() => detectorOf({}).feed([0, 0, 0, 0]), /rows of 5/);
});

test("rules that Python refuses are refused", () => {
  assert.throws(() => ruleFrom({ treshold: 1 }), /unknown key treshold/);
  assert.throws(() => ruleFrom({ smoothing_seconds: 61 }), /0 to 60 s/);
  assert.throws(() => ruleFrom({ thresholds: { yes: null } }), /finite threshold/);
});

test("confidences and log-odds are each other's inverse", () => {
  for (const value of [1e-6, 0.05, 0.5, 0.8, 0.999999]) {
    assert.ok(Math.abs(confidenceOf(scoreOf(value)) - value) < 1e-9);
  }
  assert.ok(Number.isFinite(scoreOf(0)) && Number.isFinite(scoreOf(1)));
});

test("a listener hears pieces of any size as Python's does", async () => {
  const listener = new Listener(new Mean(), ruleFrom(golden.listener.rule));
  const chunks = golden.listener.chunks.map((runs) => (
    Float32Array.from(runs.flatMap(([value, count]) => Array(count).fill(value)))));
  const found = [];
  for (const chunk of chunks) found.push(await listener.feed(chunk));
  found.push(await listener.finish());
  golden.listener.detections.forEach((expected, index) => same(found[index], expected));
  assert.equal(found.length, golden.listener.detections.length);
  listener.reset(12.5);
  same(await listener.feed(Float32Array.from(chunks.flatMap((chunk) => [...chunk]))), golden.listener["from_12.5"]);
});

test("samples that are no numbers count as silence, and loud ones as full scale", async () => {
  const heard = [];
  const model = new Mean();
  const step = model.step.bind(model);
  model.step = (samples, state) => { heard.push(...samples); return step(samples, state); };
  const listener = new Listener(model, ruleFrom({}));
  await listener.feed(Float32Array.from({ length: 1360 }, (_, n) => [NaN, Infinity, -Infinity, 2, -3, 0.5][n % 6]));
  assert.deepEqual(heard.slice(240, 246), [0, 0, 0, 1, -1, 0.5]);
});
