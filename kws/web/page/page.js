/** The page: joins what the user does, the worker that hears, and what is shown. */
import { save } from "./archive.js";
import { droppedFiles, modelFile } from "./dropped.js";
import { Heard } from "./heard.js";
import { decodeFile, openMicrophone } from "./sound.js";
import { Spectrogram } from "./spectrogram.js";
import { Takes } from "./takes.js";
import { Words } from "./words.js";

const PIECE = 1; // seconds of a recording that the worker gets at once: as often the picture moves

/** @type {(id: string) => HTMLElement} */
const at = (id) => document.getElementById(id);
const worker = new Worker(new URL("./hearing.js", import.meta.url), { type: "module" });
const spectrogram = new Spectrogram(at("spectrogram"));
const heard = new Heard(at("heard"));
const words = new Words(at("words"), (rule) => worker.postMessage({ do: "rule", rule }));
const takes = new Takes(at("takes"), listen);

/** @type {import("./metadata.js").Facts | null} */ let facts = null;
/**
 * What is heard now.
 * @type {{id: number, name: string, microphone?: object, lost: number, seconds: number, words: number,
 *   onDone: (goOn: boolean) => void} | null}
 */
let sound = null;
let turn = 0; // of what the user asked for last; what an earlier turn brings late is thrown away

worker.onmessage = ({ data }) => {
  if (!data.of || data.of === sound?.id) answers[data.is](data); // else of a sound that was ended meanwhile
};
worker.onerror = ({ message }) => tellError("The part of the page that listens cannot run "
  + `(${message || "not loaded"}); a recent Firefox, Chrome or Safari can.`);

const answers = {
  model({ facts: found, name }) {
    facts = found;
    words.use(facts);
    takes.use(facts.sample_rate);
    at("model-name").textContent = name;
    at("advice").textContent = advice(facts);
    for (const id of ["microphone", "recording", "thresholds-reset"]) at(id).disabled = false;
    tell(`Ready for ${facts.labels.slice(0, -2).join(", ")}.`);
  },
  refused({ message }) {
    tellError(message);
    tell(facts ? "The model before is in use." : "There is no model.");
  },
  heard({ samples, columns, best, detections, seconds }) {
    words.show(best);
    takes.hear(samples);
    spectrogram.add(columns, detections, seconds, facts.step_samples / facts.sample_rate);
    for (const found of detections) {
      heard.add(sound.name, found);
      words.light(found.word);
      sound.words += 1;
    }
    enableList();
    sound.seconds = seconds;
    tellTime();
  },
  done: () => sound.onDone(true),
  lost({ seconds }) {
    sound.lost += seconds;
    takes.lose();
    tellTime();
  },
  stalled({ isStalled }) {
    tellError(isStalled ? "No sound comes from the microphone; it may be unplugged, or taken by another program." : "");
  },
  failed({ message }) {
    stop();
    tell("");
    tellError(`The model failed: ${message}.`);
  },
};

/** Hear the microphone, unless it is heard already. @returns {Promise<boolean>} whether it is */
async function listen() {
  if (sound?.microphone) return true;
  const asked = stop();
  tellError("");
  tell("Waiting for the microphone …");
  try {
    const microphone = await openMicrophone({
      onEnd() {
        stop();
        tell("");
        tellError("The microphone is gone. Connect it and listen again.");
      },
      onPause: (isPaused) => tellError(isPaused ? "The system has stopped the microphone for now." : ""),
    });
    if (asked !== turn) {
      microphone.close();
      return false;
    }
    begin({ name: microphone.name, microphone }, microphone.rate, microphone.port);
    tell("Listening.");
    at("microphone").textContent = "Stop";
    return true;
  } catch (error) {
    if (asked !== turn) return false;
    tell("");
    tellError(error.message);
    return false;
  }
}

/**
 * Hear a recording, faster than real time.
 * @param {File} file
 * @returns {Promise<boolean>} whether it is done: false if the user asked for something else meanwhile
 */
async function hearFile(file) {
  const asked = stop();
  const rate = facts.sample_rate; // another model may come meanwhile
  tell(`Decoding ${file.name} …`);
  let samples;
  try {
    samples = await decodeFile(file, rate);
  } catch ({ message }) {
    if (asked !== turn) return false;
    tell("");
    tellError(`${at("alert").textContent} ${message}`); // after those of other files
    return true;
  }
  if (asked !== turn) return false;
  const own = begin({ name: file.name }, rate);
  tell(`Hearing ${file.name} …`);
  const size = PIECE * rate;
  for (let first = 0; first < samples.length; first += size) {
    if (!await request(own, { do: "samples", samples: samples.slice(first, first + size) })) return false;
  }
  if (!await request(own, { do: "finish" })) return false;
  const { seconds, words: count } = own;
  stop();
  tell(`${file.name}: ${count} ${count === 1 ? "word" : "words"} heard in ${seconds.toFixed(1)} s.`);
  return true;
}

/** Have the worker do something for a sound; false if that was ended meanwhile. @returns {Promise<boolean>} */
function request(own, message) {
  if (sound !== own) return Promise.resolve(false);
  return new Promise((resolve) => {
    own.onDone = resolve;
    worker.postMessage(message);
  });
}

function begin(next, rate, port) {
  sound = { id: turn, lost: 0, seconds: 0, words: 0, onDone: () => {}, ...next };
  spectrogram.clear();
  worker.postMessage({ do: "start", id: sound.id, rate, microphone: port }, port ? [port] : []);
  return sound;
}

/** End what is heard, or will be. @returns {number} the turn that begins */
function stop() {
  turn += 1;
  if (!sound) return turn;
  const ended = sound;
  sound = null;
  worker.postMessage({ do: "stop" });
  ended.microphone?.close();
  ended.onDone(false);
  takes.stop();
  at("time").textContent = "";
  words.show(words.keywords.map(() => 0));
  at("microphone").textContent = "Listen to the microphone";
  return turn;
}

/** Use another model. @param {Blob} file @param {string} name */
async function load(file, name) {
  const asked = stop();
  tell(`Loading ${name} …`);
  const content = new Uint8Array(await file.arrayBuffer());
  if (asked === turn) worker.postMessage({ do: "load", file: content, name });
}

/** Take what was dropped or chosen: a model, or recordings. @param {File[]} files @param {string} folder, or "" */
async function receive(files, folder) {
  tellError("");
  const model = modelFile(files, folder);
  if (model) return load(model, folder ? `${folder}/${model.name}` : model.name);
  if (!facts) throw new Error("There is no model yet; expected a stream.onnx first.");
  for (const file of files) if (!await hearFile(file)) return;
}

/** Say what the page does, to screen readers too. */
function tell(text) {
  at("status").textContent = text;
}

/** Show how far it is; this is not read aloud. */
function tellTime() {
  const lost = sound.lost ? `, ${sound.lost.toFixed(1)} s of it lost` : "";
  at("time").textContent = `${Math.floor(sound.seconds)} s${lost}`;
}

/** Show what went wrong; "" takes it away. @param {string} text */
function tellError(text) {
  at("alert").textContent = text.trim();
  at("alert").hidden = !text;
}

function enableList() {
  at("save").disabled = at("clear").disabled = !heard.records.length;
}

/** Say what thresholds cost. @param {import("./metadata.js").Facts} facts */
function advice({ advice: measured }) {
  const counts = new Map(measured.map(({ confidence, false_accepts }) => [confidence, false_accepts]));
  if (!counts.size) return "";
  const costs = [...counts].map(([confidence, count]) => `${count} at ${confidence.toFixed(2)}`);
  return `False accepts in ${measured[0].hours.toFixed(1)} h of talk: ${costs.join(", ")}.`;
}

at("microphone").addEventListener("click", () => {
  if (!sound?.microphone) return listen();
  stop();
  return tell("Stopped.");
});
at("thresholds-reset").addEventListener("click", () => words.reset());
at("save").addEventListener("click", () => save("heard.jsonl", heard.asLines(), "application/jsonl"));
at("clear").addEventListener("click", () => {
  heard.clear();
  enableList();
});
for (const id of ["recording", "model-file", "model-folder"]) {
  at(id).addEventListener("change", ({ target }) => {
    const files = [...target.files];
    const folder = id === "model-folder" ? files[0]?.webkitRelativePath.split("/")[0] ?? "" : "";
    target.value = ""; // so that the same one can be chosen again
    if (files.length) receive(files, folder).catch((error) => tellError(error.message));
  });
}
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
addEventListener("dragleave", ({ relatedTarget }) => relatedTarget || document.body.classList.remove("dropping"));
addEventListener("drop", async (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  try {
    const { files, folder } = await droppedFiles(event.dataTransfer);
    await receive(files, folder);
  } catch (error) {
    tellError(error.message);
  }
});

async function loadOwn() {
  const answer = await fetch("model/stream.onnx");
  if (!answer.ok) throw new Error(`model/stream.onnx: the server answered ${answer.status}; choose a model below.`);
  await load(await answer.blob(), "stream.onnx");
}

loadOwn().catch((error) => {
  tell("There is no model.");
  tellError(error.message);
});
navigator.serviceWorker?.register("offline.js").catch(() => {}); // a private window may refuse; it works online
