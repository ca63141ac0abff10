// Read .safetensors files.

const ARRAYS = { F64: Float64Array, F32: Float32Array, F16: Uint16Array, I64: BigInt64Array, I32: Int32Array, U8: Uint8Array };

/**
 * Parse a file. The tensors are views of the buffer; half precision comes as its bits.
 * @param {ArrayBuffer} buffer
 * @returns {{metadata: Object<string, string>, tensors: Object<string, {shape: number[], data: ArrayBufferView}>}}
 * @throws {Error} if the file is damaged.
 */
export function parseSafetensors(buffer) {
  if (buffer.byteLength < 8) throw new Error("the generator's file is damaged");
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  if (8 + length > buffer.byteLength) throw new Error("the generator's file is damaged");
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  const { __metadata__: metadata = {}, ...entries } = header;
  const tensors = {};
  for (const [name, { dtype, shape, data_offsets: [start, end] }] of Object.entries(entries)) {
    const type = ARRAYS[dtype];
    const first = 8 + length + start;
    const count = (end - start) / type.BYTES_PER_ELEMENT;
    // A view must start at a multiple of its element's size; the format does not promise that.
    const data = first % type.BYTES_PER_ELEMENT === 0
      ? new type(buffer, first, count)
      : new type(buffer.slice(first, first + end - start));
    tensors[name] = { shape, data };
  }
  return { metadata, tensors };
}
