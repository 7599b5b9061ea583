/**
 * What `kws export` wrote into a model: labels, rule, rates. ONNX Runtime's interface for browsers does not show the
 * metadata of a file, so it is read from its bytes, and a model is one file that nothing beside it can contradict.
 *
 * @typedef {{labels: string[], sample_rate: number, step_samples: number, lead_samples: number, delay_rows: number,
 *   state_size: number, rule: import("./detector.js").Rule,
 *   advice: {per_hour: number, confidence: number, false_accepts: number, hours: number}[]}} Facts
 */
import { ruleFrom } from "./detector.js";

const EXPECTED = "expected stream.onnx, which `kws export` writes into a model's folder";
const METADATA_PROPS = 14; // field of ModelProto in onnx.proto; each has a key, field 1, and a value, field 2
const [VARINT, EIGHT_BYTES, BYTES, FOUR_BYTES] = [0, 1, 2, 5]; // Protocol Buffers' kinds of fields

/**
 * Read what a model for running sound says of itself.
 * @param {Uint8Array} file
 * @param {string} name of the file, for messages
 * @returns {Facts}
 * @throws {Error} with a message for the user
 */
export function readFacts(file, name) {
  let properties;
  try {
    properties = readMetadata(file);
  } catch {
    throw new Error(`${name}: is no ONNX file; ${EXPECTED}`);
  }
  if (properties.num_samples && !properties.step_samples) {
    throw new Error(`${name}: is a model for single clips; ${EXPECTED}`);
  }
  try {
    return factsFrom(properties);
  } catch (error) {
    throw new Error(`${name}: its metadata is not that of a model for running sound (${error.message}); ${EXPECTED}`);
  }
}

/** @param {Uint8Array} file @returns {Object<string, string>} @throws {Error} if it is no message */
export function readMetadata(file) {
  const text = (bytes) => new TextDecoder().decode(bytes);
  const entries = [...fields(file)].filter(([field]) => field === METADATA_PROPS).map(([, entry]) => {
    const found = new Map(fields(entry));
    return [text(found.get(1)), text(found.get(2))];
  });
  return Object.fromEntries(entries);
}

/** Yield number and bytes of each field of a message that has bytes; step over the others. */
function* fields(message) {
  let place = 0;
  const varint = () => {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      if (place >= message.length || factor > 2 ** 63) throw new Error("no message");
      const byte = message[place++];
      value += (byte % 128) * factor;
      if (byte < 128) return value;
    }
  };
  while (place < message.length) {
    const tag = varint();
    const kind = tag % 8;
    if (kind === VARINT) varint();
    else if (kind === EIGHT_BYTES) place += 8;
    else if (kind === FOUR_BYTES) place += 4;
    else if (kind !== BYTES) throw new Error("no message");
    else {
      const length = varint();
      yield [Math.floor(tag / 8), message.subarray(place, place + length)];
      place += length;
    }
    if (place > message.length) throw new Error("no message");
  }
}

/** @param {Object<string, string>} properties @returns {Facts} */
function factsFrom(properties) {
  const json = (key) => {
    if (!(key in properties)) throw new Error(`no ${key}`);
    return JSON.parse(properties[key]);
  };
  const whole = (key, least) => {
    const value = json(key);
    if (!Number.isInteger(value) || value < least) throw new Error(`${key} is ${properties[key]}`);
    return value;
  };
  const labels = json("labels").map((label) => label.normalize("NFC"));
  if (labels.length < 3 || labels.at(-2) !== "_unknown_" || labels.at(-1) !== "_silence_") {
    throw new Error(`labels are ${labels.join(" ")}`);
  }
  return {
    labels, sample_rate: whole("sample_rate", 1), step_samples: whole("step_samples", 1),
    lead_samples: whole("lead_samples", 0), delay_rows: whole("delay_rows", 0), state_size: whole("state_size", 1),
    rule: ruleFrom(json("detector")), advice: "detector_advice" in properties ? json("detector_advice") : [],
  };
}
