import assert from "node:assert/strict";
import { test } from "node:test";

import "../../kws/web/page/memory.js";

const PAGE = 65536;

test("a runtime that asks for 4 GiB of shared memory gets 512 MiB", () => {
  const memory = new WebAssembly.Memory({ initial: 256, maximum: 65536, shared: true });
  assert.ok(memory.buffer instanceof SharedArrayBuffer);
  assert.equal(memory.grow(8192 - 256), 256);
  assert.equal(memory.buffer.byteLength, 8192 * PAGE);
  assert.throws(() => memory.grow(1), RangeError);
});

test("one that asks for less gets what it asks for, one without a limit a limit", () => {
  const little = new WebAssembly.Memory({ initial: 1, maximum: 2 });
  assert.equal(little.grow(1), 1);
  assert.throws(() => little.grow(1), RangeError);
  assert.throws(() => new WebAssembly.Memory({ initial: 1 }).grow(8192), RangeError);
});
