/** The picture of the last seconds: columns of `MelColumns`, and above them the words where they were said. */
import { BANDS } from "./mel.js";

const COLUMN = 2; // pixels of CSS
const MARGIN = 24; // above, for the words
const SILENCE = "#0b0d12";

export class Spectrogram {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.brush = canvas.getContext("2d", { alpha: false });
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    this.end = 0; // where the next column comes
    this.wait = []; // what the next frame draws
    this.fit();
    new ResizeObserver(() => this.fit()).observe(canvas);
  }

  /** Begin a picture of another sound. */
  clear() {
    this.end = 0;
    this.wait = [];
    this.erase(0);
  }

  /** Take the size that the page gives; what was drawn last stays. */
  fit() {
    const { canvas, brush } = this;
    const [width, height] = [Math.max(canvas.clientWidth, 100), Math.max(canvas.clientHeight, 100)];
    if (width === this.width && height === this.height) return;
    const before = sheet(canvas.width, canvas.height);
    before.getContext("2d").drawImage(canvas, 0, 0);
    const from = this.scale ?? 1;
    this.scale = Math.min(devicePixelRatio || 1, 2);
    Object.assign(this, { width, height });
    [canvas.width, canvas.height] = [width * this.scale, height * this.scale];
    brush.scale(this.scale, this.scale);
    const shift = Math.max(this.end - width, 0);
    brush.drawImage(before, -shift, 0, before.width / from, before.height / from);
    this.end -= shift;
    this.erase(this.end);
  }

  erase(start) {
    this.brush.fillStyle = SILENCE;
    this.brush.fillRect(start, 0, this.width - start, this.height);
  }

  /**
   * @param {Uint8Array} columns [n * BANDS]
   * @param {import("./detector.js").Detection[]} detections that these columns completed
   * @param {number} seconds when the last column ends
   * @param {number} step seconds of a column
   */
  add(columns, detections, seconds, step) {
    if (!this.wait.length) requestAnimationFrame(() => this.draw());
    this.wait.push({ columns, detections, seconds, step });
    const most = this.width / COLUMN; // of a page in the background nothing is drawn; keep what would still be seen
    while (this.wait.length > most) this.wait.shift();
  }

  draw() {
    for (const { columns, detections, seconds, step } of this.wait) {
      const most = Math.floor(this.width / COLUMN) * BANDS;
      this.drawColumns(columns.subarray(Math.max(columns.length - most, 0)));
      for (const found of detections) {
        const place = (time) => this.end - ((seconds - time) / step) * COLUMN;
        this.mark(place(found.start_s), place(found.end_s), `${found.word} ${Math.round(100 * found.confidence)} %`);
      }
    }
    this.wait = [];
  }

  drawColumns(columns) {
    const count = columns.length / BANDS;
    if (!count) return;
    this.makeRoom(count * COLUMN);
    const image = new ImageData(count, BANDS);
    columns.forEach((value, index) => {
      const [column, band] = [Math.floor(index / BANDS), index % BANDS];
      image.data.set(COLOURS[value], 4 * ((BANDS - 1 - band) * count + column));
    });
    const tile = sheet(count, BANDS);
    tile.getContext("2d").putImageData(image, 0, 0);
    const { brush } = this;
    brush.imageSmoothingEnabled = false;
    brush.fillStyle = SILENCE;
    brush.fillRect(this.end, 0, count * COLUMN, MARGIN);
    brush.drawImage(tile, this.end, MARGIN, count * COLUMN, this.height - MARGIN);
    this.end += count * COLUMN;
  }

  /** Move the picture to the left: as far as needed, or rarely and far for those whom motion harms. */
  makeRoom(needed) {
    const missing = this.end + needed - this.width;
    if (missing <= 0) return;
    const shift = Math.min(this.still.matches ? Math.max(missing, this.width / 2) : missing, this.end);
    const { brush, canvas, scale } = this;
    brush.drawImage(canvas, -shift, 0, canvas.width / scale, canvas.height / scale);
    this.end -= shift;
    this.erase(this.end);
  }

  mark(start, end, text) {
    const { brush } = this;
    brush.fillStyle = "#7dffb0";
    brush.fillRect(start, MARGIN - 4, end - start, 3);
    brush.font = "600 14px system-ui, sans-serif";
    brush.fillText(text, Math.min(start, this.width - brush.measureText(text).width - 2), MARGIN - 8);
  }
}

/** A canvas that is not shown. */
const sheet = (width, height) => Object.assign(document.createElement("canvas"), { width, height });

// From near black by blue and orange to near white.
const STOPS = [[11, 13, 18], [38, 42, 110], [150, 50, 120], [240, 120, 60], [255, 240, 190]];
const COLOURS = Array.from({ length: 256 }, (_, value) => {
  const place = (value / 255) * (STOPS.length - 1);
  const [low, part] = [Math.min(Math.floor(place), STOPS.length - 2), place % 1];
  const rest = place >= STOPS.length - 1 ? 1 : part;
  return [...STOPS[low].map((channel, n) => channel + (STOPS[low + 1][n] - channel) * rest), 255];
});
