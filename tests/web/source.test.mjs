import assert from "node:assert/strict";
import { setTimeout as wait } from "node:timers/promises";
import { test } from "node:test";
import { ruleFrom } from "../../kws/web/page/detector.js";
import { Source } from "../../kws/web/page/source.js";
import { Mean } from "./mean.mjs";

const RATE = 16000;
const PIECE = 320; // samples: 20 ms

/** A source with a microphone, what it tells, and all that it does, one after the other. */
function listening(rate = RATE) {
  const told = [];
  const microphone = { close() {} };
  let work = Promise.resolve();
  const worker = { tell: (message) => told.push(message), inTurn: (task) => { work = work.then(task); } };
  const source = new Source(new Mean(), ruleFrom({}), rate, worker, microphone);
  const deliver = (at) => microphone.onmessage({ data: { samples: new Float32Array(PIECE), at } });
  return { source, told, deliver, allDone: () => work };
}

const sum = (told, kind, value) => told.filter(({ is }) => is === kind).reduce((total, one) => total + value(one), 0);

test("every piece is heard, however often sound was lost before", async () => {
  const { source, told, deliver, allDone } = listening();
  const [gaps, pieces] = [300, 60]; // a gap of half a second after every 1.2 s
  for (let n = 0; n < gaps * pieces; n++) {
    deliver(n * 0.02 + Math.floor(n / pieces) * 0.5);
    await allDone();
  }
  source.close();
  const heard = sum(told, "heard", ({ samples }) => samples.length) / RATE;
  const lost = sum(told, "lost", ({ seconds }) => seconds);
  assert.ok(Math.abs(heard - gaps * pieces * 0.02) < 1e-6, `${heard} s heard`);
  assert.ok(Math.abs(lost - (gaps - 1) * 0.5) < 0.6, `${lost} s lost`);
  assert.ok(Math.abs(told.at(-1).seconds - heard - lost) < 1e-6, "times count on over what was lost");
});

test("a computer that is far behind drops sound, says so, and catches up", async () => {
  const { source, told, deliver, allDone } = listening();
  for (let n = 0; n < 500; n++) deliver(n * 0.02); // 10 s at once: nothing is done meanwhile
  await allDone();
  deliver(10);
  await allDone();
  source.close();
  assert.ok(Math.abs(sum(told, "lost", ({ seconds }) => seconds) - 5) < 0.1);
  assert.ok(Math.abs(told.at(-1).seconds - 10.02) < 1e-6);
});

test("what is dropped costs nothing: the filters for another rate are made once", async () => {
  const { source, told, deliver, allDone } = listening(44100);
  const { filters } = source.resampler;
  for (let n = 0; n < 2000; n++) deliver(n * (PIECE / 44100)); // 14.5 s at once
  await allDone();
  source.close();
  assert.ok(sum(told, "lost", ({ seconds }) => seconds) > 9);
  assert.equal(source.resampler.filters, filters);
});

test("a computer that is a little too slow hears long stretches, not scraps", async () => {
  const told = [];
  const tasks = [];
  const worker = { tell: (message) => told.push(message), inTurn: (task) => tasks.push(task) };
  const microphone = { close() {} };
  const source = new Source(new Mean(), ruleFrom({}), RATE, worker, microphone);
  for (let n = 0; n < 20000; n++) { // 400 s, of which it can do 95 %
    microphone.onmessage({ data: { samples: new Float32Array(PIECE), at: n * 0.02 } });
    if (n % 20 === 0) continue;
    do await tasks.shift()?.(); while (tasks.length && told.at(-1).is === "lost"); // which costs nothing
  }
  source.close();
  const kinds = told.map(({ is }) => is).filter((is) => is !== "stalled").join(" ");
  const stretches = kinds.split(/(?:lost ?)+/).map((part) => part.length / "heard ".length * 0.02);
  assert.ok(stretches.length > 2 && Math.min(...stretches.slice(0, -1)) > 30, `${stretches} s`);
});

test("a microphone that gives nothing any more is told, and when it does again", async () => {
  const { source, told, deliver } = listening();
  const stalls = () => told.filter(({ is }) => is === "stalled").map(({ isStalled }) => isStalled);
  deliver(0);
  await wait(1000);
  assert.deepEqual(stalls(), []);
  await wait(3000);
  assert.deepEqual(stalls(), [true]);
  deliver(4);
  assert.deepEqual(stalls(), [true, false]);
  source.close();
  await wait(3500);
  assert.deepEqual(stalls(), [true, false], "a closed source is quiet");
});
