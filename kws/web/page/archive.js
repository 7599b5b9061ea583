/** Files that the page gives away: sound as WAV, many files as one ZIP. */

/** Give the user a file. @param {string} name @param {BlobPart} content @param {string} type */
export function save(name, content, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/**
 * @param {Float32Array} samples [T] in -1..1, mono
 * @param {number} rate in Hz
 * @returns {Uint8Array} a WAV file of 16 bits
 */
export function wave(samples, rate) {
  const [header, data] = [44, 2 * samples.length];
  const view = new DataView(new ArrayBuffer(header + data));
  const text = (place, value) => [...value].forEach((letter, n) => view.setUint8(place + n, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, header - 8 + data, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true); // bytes of what follows
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, 1, true); // channels
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true); // bytes a second
  view.setUint16(32, 2, true); // bytes a frame
  view.setUint16(34, 16, true); // bits
  text(36, "data");
  view.setUint32(40, data, true);
  samples.forEach((sample, n) => {
    view.setInt16(header + 2 * n, Math.min(Math.max(Math.round(sample * 32768), -32768), 32767), true);
  });
  return new Uint8Array(view.buffer);
}

/**
 * Put files into an archive as they are: sound hardly gets smaller.
 * @param {{name: string, content: Uint8Array}[]} files
 * @param {Date} date of all
 * @returns {Uint8Array}
 * @see PKWARE, APPNOTE.TXT, sections 4.3.7, 4.3.12 and 4.3.16
 */
export function zip(files, date) {
  const time = (date.getHours() << 11) | (date.getMinutes() << 5) | (date.getSeconds() >> 1);
  const day = ((date.getFullYear() - 1980) << 9) | ((date.getMonth() + 1) << 5) | date.getDate();
  const entries = files.map(({ name, content }) => ({ name: new TextEncoder().encode(name), content }));
  const [parts, directory] = [[], []];
  let offset = 0;
  for (const { name, content } of entries) {
    // Version 2.0, names in UTF-8, stored.
    const facts = numbers([2, 20], [2, 1 << 11], [2, 0], [2, time], [2, day], [4, crc32(content)], [4, content.length],
      [4, content.length], [2, name.length], [2, 0]);
    parts.push(numbers([4, 0x04034b50]), facts, name, content);
    directory.push(numbers([4, 0x02014b50], [2, 20]), facts, numbers([2, 0], [2, 0], [2, 0], [4, 0], [4, offset]),
      name);
    offset += 4 + facts.length + name.length + content.length;
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const count = entries.length;
  return concatenated([...parts, ...directory,
    numbers([4, 0x06054b50], [2, 0], [2, 0], [2, count], [2, count], [4, size], [4, offset], [2, 0])]);
}

/** Write numbers of so many bytes each, the lowest first. @param {...[number, number]} sized */
function numbers(...sized) {
  return Uint8Array.from(sized.flatMap(([bytes, value]) => (
    Array.from({ length: bytes }, (_, byte) => (value >>> (8 * byte)) & 255))));
}

function concatenated(parts) {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  parts.reduce((place, part) => {
    all.set(part, place);
    return place + part.length;
  }, 0);
  return all;
}

const TABLE = Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

/** @param {Uint8Array} bytes */
function crc32(bytes) {
  return ~bytes.reduce((crc, byte) => (crc >>> 8) ^ TABLE[(crc ^ byte) & 255], ~0) >>> 0;
}
