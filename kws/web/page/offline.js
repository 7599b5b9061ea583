/** Service worker: the page works without a network once it was opened. With one, everything is fetched anew. */
const CACHE = "kws";
const FILES = ["./", "index.html", "style.css", "icon.svg", "archive.js", "capture.js", "detector.js", "dropped.js",
  "heard.js", "hearing.js", "listener.js", "loss.js", "mel.js", "memory.js", "metadata.js", "model.js", "page.js",
  "resampler.js", "sound.js", "source.js", "spectrogram.js", "take.js", "takes.js", "words.js", "model/stream.onnx",
  "onnxruntime/ort.wasm.min.mjs", "onnxruntime/ort-wasm-simd-threaded.mjs",
  "onnxruntime/ort-wasm-simd-threaded.wasm"];
const OWN = new Set(FILES.map((file) => new URL(file, registration.scope).href)); // others may use this address too

addEventListener("install", (event) => event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(FILES))));

addEventListener("fetch", (event) => {
  const [address] = event.request.url.split(/[?#]/);
  if (event.request.method === "GET" && OWN.has(address)) event.respondWith(answer(event, address));
});

async function answer(event, address) {
  const cache = await caches.open(CACHE);
  const fresh = await fetch(event.request).catch(() => null);
  if (fresh?.ok) {
    event.waitUntil(cache.put(address, fresh.clone()).catch(() => {})); // a full disk is no reason to show nothing
    return fresh;
  }
  return await cache.match(address) ?? fresh ?? Response.error();
}
