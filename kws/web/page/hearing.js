/**
 * The worker that hears: sound in, what the page shows out. Nothing that takes time runs beside the page's drawing.
 *
 * In:  {do: "load", file, name} · {do: "start", id, rate, microphone?} · {do: "samples", samples} · {do: "finish"}
 *      {do: "stop"} · {do: "rule", rule}
 * Out: {is: "model", facts, name} · {is: "refused", message}
 *      {is: "heard", samples, columns, best, detections, seconds} · {is: "lost", seconds}
 *      {is: "stalled", isStalled} where a microphone gives nothing, and when it does again
 *      {is: "done"} after samples and finish · {is: "failed", message}
 *      What is of a sound has its id in `of`.
 * A microphone is the port on which capture.js sends {samples, at}.
 */
import { StreamModel } from "./model.js";
import { Source } from "./source.js";

/** @type {StreamModel} */ let model;
/** @type {import("./detector.js").Rule} */ let rule;
/** @type {Source | null} */ let source = null;
let work = Promise.resolve(); // what is done one after the other

const commands = {
  async load({ file, name }) {
    try {
      model = await StreamModel.load(file, name);
      rule = model.facts.rule;
      postMessage({ is: "model", facts: model.facts, name });
    } catch (error) {
      postMessage({ is: "refused", message: error.message });
    }
  },
  start({ id, rate, microphone }) {
    source?.close();
    const tell = (message) => postMessage({ ...message, of: id });
    source = new Source(model, rule, rate, { tell, inTurn }, microphone);
  },
  async samples({ samples }) {
    await source.hear(samples);
    source.tell({ is: "done" });
  },
  async finish() {
    await source.finish();
    source.tell({ is: "done" });
  },
  stop() {
    source?.close();
    source = null;
  },
  rule(message) {
    rule = message.rule;
    source?.listener.detector.useRule(rule);
  },
};

/** Do something after all that came before. */
function inTurn(task) {
  work = work.then(task).catch((error) => postMessage({ is: "failed", message: String(error.message ?? error) }));
}

onmessage = ({ data }) => inTurn(() => commands[data.do](data));
