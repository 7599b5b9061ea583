import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { wave, zip } from "../../kws/web/page/archive.js";
import { modelFile } from "../../kws/web/page/dropped.js";
import { readFacts, readMetadata } from "../../kws/web/page/metadata.js";

const shipped = new URL("../../kws/pretrained/kws-8/", import.meta.url);
const read = (name) => new Uint8Array(readFileSync(new URL(name, shipped)));

test("a model says what it is", () => {
  const facts = readFacts(read("stream.onnx"), "stream.onnx");
  const config = JSON.parse(readFileSync(new URL("config.json", shipped)));
  assert.deepEqual(facts.labels, Object.values(config.id2label));
  assert.equal(facts.sample_rate, config.sample_rate);
  assert.deepEqual(facts.rule, config.detector);
  assert.ok(Array.isArray(facts.advice) && facts.state_size > 0 && facts.step_samples > 0);
});

const utf8 = (text) => new TextEncoder().encode(text);
const field = (number, bytes) => [number * 8 + 2, bytes.length, ...bytes];
const entry = (key, value) => field(14, [...field(1, utf8(key)), ...field(2, utf8(value))]);
const GOOD = {
  labels: '["a", "_unknown_", "_silence_"]', sample_rate: "16000", step_samples: "320", lead_samples: "240",
  delay_rows: "30", state_size: "9", detector: "{}",
};
const file = (properties) => Uint8Array.from(Object.entries(properties).flatMap(([key, value]) => entry(key, value)));

test("every kind of field is stepped over", () => {
  const others = [8, 7, 17, 1, 2, 3, 4, 5, 6, 7, 8, 29, 1, 2, 3, 4, ...field(5, [1, 2, 3])];
  assert.deepEqual(readMetadata(Uint8Array.from([...others, ...file({ a: "b" }), ...others])), { a: "b" });
  assert.equal(readFacts(file(GOOD), "a.onnx").delay_rows, 30);
});

test("a word's two spellings are one", () => {
  const facts = readFacts(file({ ...GOOD, labels: '["o\\u0308l", "_unknown_", "_silence_"]' }), "a.onnx");
  assert.equal(facts.labels[0], "öl");
});

test("files that are no model are refused with what helps", () => {
  const refused = (bytes, message) => assert.throws(() => readFacts(bytes, "my.onnx"), ({ message: found }) => (
    found.startsWith("my.onnx: ") && found.includes("`kws export`") && message.test(found)), String(message));
  refused(new TextEncoder().encode("this is text, not a model"), /is no ONNX file/);
  refused(read("stream.onnx").subarray(0, 5000), /is no ONNX file/);
  refused(new Uint8Array(1000).fill(255), /is no ONNX file/);
  refused(new Uint8Array(0), /no labels/);
  refused(read("model.onnx"), /for single clips/);
  refused(file({ author: "another program" }), /no labels/);
  for (const [key, value] of Object.entries({
    labels: '["a", "b"]', sample_rate: "0", step_samples: "x", state_size: "1.5", detector: '{"smoothing": 1}',
  })) refused(file({ ...GOOD, [key]: value }), /not that of a model for running sound/);
  for (const key of Object.keys(GOOD)) {
    refused(file(Object.fromEntries(Object.entries(GOOD).filter(([name]) => name !== key))), new RegExp(`no ${key}`));
  }
});

const named = (...names) => names.map((name) => ({ name }));

test("the model is found among what was dropped", () => {
  assert.equal(modelFile(named("model.onnx", "stream.onnx", "config.json"), "kws").name, "stream.onnx");
  assert.equal(modelFile(named("Mine.ONNX"), "").name, "Mine.ONNX");
  assert.equal(modelFile(named("a.wav", "b.mp3"), ""), undefined);
  assert.throws(() => modelFile(named("saved_model.pb", "labels.txt"), "bundle"),
    /bundle: no stream.onnx in this folder; found labels.txt, saved_model.pb\./);
  assert.throws(() => modelFile(named(..."gfedcba"), "many"), /found a, b, c, d, e and 2 more/);
  assert.throws(() => modelFile([], "empty"), /found no file/);
});

test("archives are read by another program, sound and names as they were", () => {
  const folder = mkdtempSync(join(tmpdir(), "kws-"));
  try {
    const samples = Float32Array.of(0, 0.5, -1, 1, 2, 1 / 32768);
    const files = [{ name: "öl/me_nohash_0.wav", content: wave(samples, 16000) },
      { name: "empty.txt", content: new Uint8Array(0) }];
    writeFileSync(join(folder, "a.zip"), zip(files, new Date(2026, 10, 26, 12, 34, 56)));
    const code = "import json, sys, wave, zipfile; z = zipfile.ZipFile(sys.argv[1]); "
      + "w = wave.open(z.open('öl/me_nohash_0.wav')); "
      + "print(json.dumps([z.testzip(), z.namelist(), z.infolist()[0].date_time, w.getparams()[:4], "
      + "w.readframes(9).hex()]))";
    const [bad, names, date, format, frames] = JSON.parse(execFileSync(
      process.env.PYTHON ?? "python3", ["-X", "utf8", "-c", code, join(folder, "a.zip")]));
    assert.equal(bad, null);
    assert.deepEqual(names, files.map(({ name }) => name));
    assert.deepEqual(date, [2026, 11, 26, 12, 34, 56]);
    assert.deepEqual(format, [1, 2, 16000, 6]);
    assert.equal(frames, "000000400080ff7fff7f0100");
  } finally {
    rmSync(folder, { recursive: true });
  }
});
