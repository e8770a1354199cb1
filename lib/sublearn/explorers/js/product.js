// The product of two matrices, which is nearly all the work of training, and the memory that matrices live in.
//
// Two programs give the same bits, because both add the same terms in the same order: the loops below, and those of
// multiply.ts in WebAssembly, which a browser runs about six times as fast: 1,160 against 180 steps of the laboratory
// per second (tests/explorers/bench.mjs, Node 20, one core; loops in JavaScript that keep a block of 4 x 4 results in
// variables: 500). Where a browser has no WebAssembly, or a page forbids it, the loops below do everything.

import program from "./dist/multiply.js";

const PAGES = 384; // of 64 kB: room for the widest networks
const FEWEST_COLUMNS = 8; // that multiply.ts can do

// out (rows x columns) = a (rows x inner) b (inner x columns); element (i, k) of a lies at
// i * rowStride + k * innerStride, and element (k, j) of b at k * columns + j.
function multiplyPlainly(out, a, rowStride, innerStride, b, rows, inner, columns) {
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) {
      let sum = 0;
      for (let k = 0; k < inner; k++) sum += a[i * rowStride + k * innerStride] * b[k * columns + j];
      out[i * columns + j] = sum;
    }
  }
}

// Memory and `multiply` of multiply.ts; null where a browser has no WebAssembly, or a page forbids it.
function compile() {
  try {
    const memory = new WebAssembly.Memory({ initial: PAGES });
    const bytes = Uint8Array.from(atob(program), (letter) => letter.charCodeAt(0));
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(bytes), { env: { memory } });
    return { buffer: memory.buffer, multiply: exports.multiply };
  } catch {
    return null;
  }
}

// A place for matrices with the product for them; `plain` does without WebAssembly.
export function workspace({ plain = false } = {}) {
  const compiled = plain ? null : compile();
  let used = 0; // bytes

  function zeros(length) {
    const start = used;
    used += 16 * Math.ceil(length / 2);
    if (!compiled || used > compiled.buffer.byteLength) return new Float64Array(length);
    return new Float64Array(compiled.buffer, start, length).fill(0);
  }

  function multiply(out, a, rowStride, innerStride, b, rows, inner, columns) {
    const inside = [a, b, out].every((matrix) => matrix.buffer === compiled?.buffer);
    if (inside && columns >= FEWEST_COLUMNS)
      compiled.multiply(out.byteOffset, a.byteOffset, rowStride, innerStride, b.byteOffset, rows, inner, columns);
    else multiplyPlainly(out, a, rowStride, innerStride, b, rows, inner, columns);
  }

  return {
    compiled: compiled !== null,
    zeros,
    multiply,
    mark: () => used,
    // Give back all that was asked for since `mark`; arrays from there must not be used any more.
    reset(mark) {
      used = mark;
    },
  };
}
