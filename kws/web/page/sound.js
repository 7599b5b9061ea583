/** Where sound comes from: a microphone, or a file that the browser can decode. Errors have messages for the user. */

const MOST_BYTES = 256 * 2 ** 20;
const ABSENT = "There is no microphone. Connect one and try again, or choose a recording.";
const REFUSALS = {
  NotAllowedError: "The microphone was refused. Allow it in the browser's settings, or choose a recording.",
  NotFoundError: ABSENT,
  OverconstrainedError: ABSENT, // of WebKit; nothing that is asked for below is a must
  NotReadableError: "The microphone cannot be opened: another program may hold it. Close that and try again.",
};

/**
 * Open the microphone.
 * @param {{onEnd: () => void, onPause: (isPaused: boolean) => void}} events it was pulled out; the system stopped it
 *   for a while, as phones do when their screen goes off
 * @returns {Promise<{name: string, rate: number, port: MessagePort, close: () => void}>} sound comes by the port
 * @throws {Error}
 */
export async function openMicrophone({ onEnd, onPause }) {
  if (!globalThis.isSecureContext || !navigator.mediaDevices) {
    throw new Error("Browsers give a microphone to pages of https:// and of this computer only; this one is of "
      + `${location.origin}. Open it by https:// or http://localhost, or choose a recording.`);
  }
  const stream = await askForMicrophone();
  const [track] = stream.getAudioTracks();
  const context = new AudioContext(); // at the rate of the computer's sound
  const tellPause = () => onPause(context.state !== "running" || track.muted);
  const wakeUp = () => {
    if (document.hidden) return;
    context.resume();
    keepAwake();
  };
  let lock;
  const keepAwake = async () => {
    lock = await navigator.wakeLock?.request("screen").catch(() => undefined);
    if (track.readyState === "ended") lock?.release(); // it was closed meanwhile
  };
  const close = () => {
    track.onended = track.onmute = track.onunmute = context.onstatechange = null;
    document.removeEventListener("visibilitychange", wakeUp);
    track.stop();
    context.close();
    lock?.release();
  };
  try {
    const port = await capture(context, stream);
    await context.resume();
    keepAwake();
    track.onended = onEnd;
    track.onmute = track.onunmute = context.onstatechange = tellPause;
    document.addEventListener("visibilitychange", wakeUp);
    return { name: track.label || "microphone", rate: context.sampleRate, port, close };
  } catch (error) {
    close();
    throw new Error(`The microphone cannot be heard (${error.message}).`);
  }
}

/** Let capture.js run on a stream; its pieces come by the port. */
async function capture(context, stream) {
  await context.audioWorklet.addModule(new URL("./capture.js", import.meta.url).href);
  const { port1, port2 } = new MessageChannel();
  const node = new AudioWorkletNode(context, "capture", { channelCount: 1, channelCountMode: "explicit" });
  node.port.postMessage(port1, [port1]);
  context.createMediaStreamSource(stream).connect(node);
  node.connect(context.destination); // it is silent; but what leads nowhere is not run everywhere
  return port2;
}

async function askForMicrophone() {
  // What browsers do for calls, they do to words too: the model knows sound as it is.
  const audio = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  try {
    return await navigator.mediaDevices.getUserMedia({ audio });
  } catch (error) {
    throw new Error(REFUSALS[error.name] ?? `The microphone cannot be opened (${error.message}).`);
  }
}

/**
 * Decode a file, mono, at a rate.
 * @param {File} file
 * @param {number} rate in Hz
 * @returns {Promise<Float32Array>} [T] in -1..1
 * @throws {Error}
 */
export async function decodeFile(file, rate) {
  if (file.size > MOST_BYTES) {
    throw new Error(`${file.name}: has ${Math.round(file.size / 2 ** 20)} MiB; at most ${MOST_BYTES / 2 ** 20} can be `
      + "decoded in a page. `kws listen` takes longer ones.");
  }
  let sound;
  try {
    sound = await new OfflineAudioContext(1, 1, rate).decodeAudioData(await file.arrayBuffer());
  } catch {
    throw new Error(`${file.name}: is no sound that this browser can decode, or too long for it; all decode WAV, `
      + "MP3 and FLAC. `kws listen` takes more, of any length.");
  }
  const channels = Array.from({ length: sound.numberOfChannels }, (_, channel) => sound.getChannelData(channel));
  if (channels.length === 1) return channels[0];
  return channels[0].map((_, n) => channels.reduce((sum, channel) => sum + channel[n], 0) / channels.length);
}
