/**
 * ONNX Runtime sets 4 GiB of addresses aside for its memory, which it shares with threads that are not started. Phones
 * refuse that much (issue 22086 of microsoft/onnxruntime); a spotter needs a hundredth of it.
 */
const MOST = 8192; // pages of 64 KiB

WebAssembly.Memory = class extends WebAssembly.Memory {
  /** @param {WebAssembly.MemoryDescriptor} descriptor */
  constructor(descriptor) {
    super({ ...descriptor, maximum: Math.min(descriptor.maximum ?? MOST, MOST) });
  }
};
