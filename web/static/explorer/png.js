// Text in PNG files.

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

function crc(bytes) {
  let value = 0xffffffff;
  for (const byte of bytes) value = CRC_TABLE[(value ^ byte) & 255] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}

function* chunks(png) {
  const view = new DataView(png.buffer, png.byteOffset, png.byteLength);
  for (let at = SIGNATURE.length; at + 12 <= png.length;) {
    const length = view.getUint32(at);
    if (at + 12 + length > png.length) return;
    yield { start: at, type: String.fromCharCode(...png.subarray(at + 4, at + 8)), data: png.subarray(at + 8, at + 8 + length) };
    at += 12 + length;
  }
}

/**
 * A PNG file with a text chunk before its end.
 * @param {Uint8Array} png
 * @param {string} keyword
 * @param {string} text of Latin-1 characters.
 * @returns {Uint8Array}
 */
export function addText(png, keyword, text) {
  const content = Uint8Array.from(`tEXt${keyword}\0${text}`, (char) => char.charCodeAt(0));
  const chunk = new Uint8Array(content.length + 8);
  const view = new DataView(chunk.buffer);
  view.setUint32(0, content.length - 4);
  chunk.set(content, 4);
  view.setUint32(content.length + 4, crc(content));
  const end = [...chunks(png)].find(({ type }) => type === "IEND").start;
  const result = new Uint8Array(png.length + chunk.length);
  result.set(png.subarray(0, end));
  result.set(chunk, end);
  result.set(png.subarray(end), end + chunk.length);
  return result;
}

/** The text of the first chunk with this keyword, or null. */
export function readText(png, keyword) {
  if (SIGNATURE.some((byte, i) => png[i] !== byte)) return null;
  for (const { type, data } of chunks(png)) {
    if (type !== "tEXt") continue;
    const zero = data.indexOf(0);
    if (new TextDecoder("latin1").decode(data.subarray(0, zero)) === keyword) return new TextDecoder("latin1").decode(data.subarray(zero + 1));
  }
  return null;
}
