/** Runs where the browser makes sound: passes the microphone's samples on to the worker, in pieces of 20 ms or so. */
const PIECE = 1024; // samples, eight of the browser's blocks

class Capture extends AudioWorkletProcessor {
  constructor(options) {
    super(options);
    this.piece = new Float32Array(PIECE);
    this.filled = 0;
    this.port.onmessage = ({ data }) => { this.worker = data; };
  }

  process([channels]) {
    if (!this.worker) return true;
    const block = channels[0] ?? new Float32Array(128); // nothing is connected while a microphone is away
    for (const channel of channels.slice(1)) channel.forEach((sample, n) => { block[n] += sample; });
    block.forEach((sample, n) => { this.piece[this.filled + n] = sample / Math.max(channels.length, 1); });
    this.filled += block.length;
    if (this.filled === PIECE) {
      this.worker.postMessage({ samples: this.piece, at: Date.now() / 1000 }, [this.piece.buffer]);
      this.piece = new Float32Array(PIECE);
      this.filled = 0;
    }
    return true;
  }
}

registerProcessor("capture", Capture);
