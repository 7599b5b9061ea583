/** Service worker: the page works without a network once it was opened. With one, everything is fetched anew. */
const CACHE = "kws";
const FILES = ["./", "style.css", "icon.svg", "archive.js", "capture.js", "detector.js", "dropped.js", "heard.js",
  "hearing.js", "listener.js", "loss.js", "mel.js", "metadata.js", "model.js", "page.js", "resampler.js", "sound.js",
  "source.js", "spectrogram.js", "take.js", "takes.js", "words.js", "model/stream.onnx",
  "onnxruntime/ort.wasm.min.mjs", "onnxruntime/ort-wasm-simd-threaded.mjs",
  "onnxruntime/ort-wasm-simd-threaded.wasm"];

addEventListener("install", (event) => event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(FILES))));

addEventListener("fetch", (event) => {
  if (event.request.method === "GET") event.respondWith(answer(event.request));
});

async function answer(request) {
  const cache = await caches.open(CACHE);
  try {
    const fresh = await fetch(request);
    if (fresh.ok) await cache.put(request, fresh.clone());
    return fresh;
  } catch (error) {
    const kept = await cache.match(request, { ignoreSearch: true });
    if (kept) return kept;
    throw error;
  }
}
