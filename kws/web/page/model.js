/** An exported network in ONNX Runtime, compiled for browsers: `StreamModel` of kws/inference/listening.py. */
import "./memory.js"; // before the runtime
import * as ort from "./onnxruntime/ort.wasm.min.mjs";
import { ROWS } from "./listener.js";
import { readFacts } from "./metadata.js";

ort.env.wasm.wasmPaths = new URL("./onnxruntime/", import.meta.url).href;
ort.env.wasm.numThreads = 1; // more need headers that static hosts do not send; 20 ms of sound take less than 1 ms

export class StreamModel {
  /** @param {ort.InferenceSession} session @param {import("./metadata.js").Facts} facts */
  constructor(session, facts) {
    this.session = session;
    this.facts = facts;
  }

  /**
   * @param {Uint8Array} file
   * @param {string} name of the file, for messages
   * @throws {Error} with a message for the user
   */
  static async load(file, name) {
    const facts = readFacts(file, name);
    let session;
    try {
      session = await ort.InferenceSession.create(file, { logSeverityLevel: 3 });
    } catch (error) {
      const reason = String(error.message ?? error).split("\n")[0];
      throw new Error(reason.startsWith("no available backend")
        ? `this browser cannot run ONNX Runtime (${reason}); a newer one, or a computer, may`
        : `${name}: cannot be loaded (${reason}); export it again`);
    }
    const found = `${[...session.inputNames].sort()} -> ${[...session.outputNames].sort()}`;
    if (found !== "samples,state -> logits,next_state") {
      throw new Error(`${name}: its inputs and outputs are ${found}; expected samples,state -> logits,next_state of a `
        + "stream.onnx that `kws export` wrote");
    }
    const model = new StreamModel(session, facts);
    await model.check(name);
    return model;
  }

  /** Run it once: shapes show in no other way. */
  async check(name) {
    const { step_samples, state_size, labels } = this.facts;
    const samples = ROWS * step_samples;
    const { logits, state } = await this.step(new Float32Array(samples), new Float32Array(state_size))
      .catch((error) => {
        throw new Error(`${name}: does not run on ${samples} samples and a state of ${state_size} `
          + `(${String(error.message ?? error).split("\n")[0]}); export it again`);
      });
    if (logits.length !== ROWS * labels.length || state.length !== state_size) {
      throw new Error(`${name}: answers ${logits.length} logits and a state of ${state.length}; expected `
        + `${ROWS * labels.length} and ${state_size}; export it again`);
    }
  }

  /**
   * Hear the next samples.
   * @param {Float32Array} samples [R * step_samples]
   * @param {Float32Array} state [S]
   * @returns {Promise<{logits: Float32Array, state: Float32Array}>} [R * C], [S]
   */
  async step(samples, state) {
    const outputs = await this.session.run({
      samples: new ort.Tensor("float32", samples, [1, samples.length]),
      state: new ort.Tensor("float32", state, [1, state.length]),
    });
    return { logits: outputs.logits.data, state: outputs.next_state.data };
  }
}
