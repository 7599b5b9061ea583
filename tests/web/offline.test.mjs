import assert from "node:assert/strict";
import { test } from "node:test";

// What a service worker finds around it: addresses, a cache, and a network that the tests switch.
const HOME = "https://house.example/spot/";
const kept = new Map();
const cache = {
  isFull: false,
  async addAll(files) { for (const file of files) kept.set(new URL(file, HOME).href, `first ${file}`); },
  async put(address, response) {
    if (this.isFull) throw new DOMException("no space", "QuotaExceededError");
    kept.set(address, await response.text());
  },
  async match(address) { return kept.has(address) ? new Response(kept.get(address)) : undefined; },
};
const listeners = {};
let network;
Object.assign(globalThis, {
  registration: { scope: HOME },
  caches: { open: async () => cache },
  addEventListener: (name, listener) => { listeners[name] = listener; },
  fetch: async () => network(),
});
await import("../../kws/web/page/offline.js");
await new Promise((resolve) => { listeners.install({ waitUntil: (done) => resolve(done) }); });

/** What the page gets for a file: null if the worker leaves the request to the browser. */
async function got(file, { method = "GET" } = {}) {
  let answer = null;
  const work = [];
  listeners.fetch({
    request: { url: new URL(file, HOME).href, method },
    respondWith: (response) => { answer = response; },
    waitUntil: (done) => work.push(done),
  });
  const response = await answer;
  await Promise.all(work);
  return response && (response.type === "error" ? "error" : response.text());
}

test("with a network everything is fetched anew, and kept", async () => {
  network = () => new Response("new");
  assert.equal(await got("page.js?x=1"), "new");
  assert.equal(await got("page.js"), "new");
  network = () => { throw new TypeError("no network"); };
  assert.equal(await got("page.js"), "new");
});

test("without one, the first visit is enough for both of the page's addresses", async () => {
  network = () => { throw new TypeError("no network"); };
  assert.equal(await got("./"), "first ./");
  assert.equal(await got("index.html#heard"), "first index.html");
});

test("a server in front that answers with an error does not hide the page", async () => {
  network = () => new Response("bad gateway", { status: 502 });
  assert.equal(await got("words.js"), "first words.js");
});

test("a disk without space is no reason to show nothing", async () => {
  network = () => new Response("newest");
  cache.isFull = true;
  assert.equal(await got("mel.js"), "newest");
  cache.isFull = false;
});

test("other programs at this address are left alone", async () => {
  network = () => new Response("theirs");
  for (const file of ["/events", "../other/", "data.json", "/page.js"]) assert.equal(await got(file), null, file);
  assert.equal(await got("page.js", { method: "POST" }), null);
  assert.ok([...kept.keys()].every((url) => url.startsWith(HOME)) && !kept.has(`${HOME}data.json`));
});
