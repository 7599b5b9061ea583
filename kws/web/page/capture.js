/** Runs where the browser makes sound: passes the microphone's samples on to the worker, in pieces of 20 ms or so. */
const PIECE = 1024; // samples, eight of the browser's blocks
const SILENCE = new Float32Array(128); // a block while no microphone is connected

class Capture extends AudioWorkletProcessor {
  constructor(options) {
    super(options);
    this.piece = new Float32Array(PIECE);
    this.filled = 0;
    this.port.onmessage = ({ data }) => { this.worker = data; };
  }

  process([[block = SILENCE]]) {
    if (!this.worker) return true;
    this.piece.set(block, this.filled);
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
