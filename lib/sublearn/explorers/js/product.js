// biome-ignore-all format: the assembled program is laid out by instruction
// The product of two matrices, which is nearly all the work of training, and the memory that matrices live in.
//
// Two programs give the same bits, because both add the same terms in the same order: one in JavaScript, and one in
// WebAssembly that adds two numbers at a time and is assembled here, byte by byte. Where a browser has no
// WebAssembly, or a page forbids it, the first does everything.

const MEGABYTES = 24;

// C (rows x columns) = A (rows x inner) B (inner x columns); element (i, k) of A lies at i * ai + k * ak, and
// element (k, j) of B at k * columns + j. A block of 4 x 4 results stays in registers; at the edges rows and columns
// are repeated instead of treated apart.
// prettier-ignore
function multiplyInScript(C, A, ai, ak, B, rows, inner, columns) {
  for (let i = 0; i < rows; i += 4) {
    const i1 = Math.min(i + 1, rows - 1), i2 = Math.min(i + 2, rows - 1), i3 = Math.min(i + 3, rows - 1);
    for (let j = 0; j < columns; j += 4) {
      const j1 = Math.min(j + 1, columns - 1), j2 = Math.min(j + 2, columns - 1), j3 = Math.min(j + 3, columns - 1);
      let c00 = 0, c01 = 0, c02 = 0, c03 = 0, c10 = 0, c11 = 0, c12 = 0, c13 = 0;
      let c20 = 0, c21 = 0, c22 = 0, c23 = 0, c30 = 0, c31 = 0, c32 = 0, c33 = 0;
      let p0 = i * ai, p1 = i1 * ai, p2 = i2 * ai, p3 = i3 * ai;
      for (let k = 0, q = 0; k < inner; k++, q += columns) {
        const a0 = A[p0], a1 = A[p1], a2 = A[p2], a3 = A[p3];
        const b0 = B[q + j], b1 = B[q + j1], b2 = B[q + j2], b3 = B[q + j3];
        c00 += a0 * b0; c01 += a0 * b1; c02 += a0 * b2; c03 += a0 * b3;
        c10 += a1 * b0; c11 += a1 * b1; c12 += a1 * b2; c13 += a1 * b3;
        c20 += a2 * b0; c21 += a2 * b1; c22 += a2 * b2; c23 += a2 * b3;
        c30 += a3 * b0; c31 += a3 * b1; c32 += a3 * b2; c33 += a3 * b3;
        p0 += ak; p1 += ak; p2 += ak; p3 += ak;
      }
      const r0 = i * columns, r1 = i1 * columns, r2 = i2 * columns, r3 = i3 * columns;
      C[r0 + j] = c00; C[r0 + j1] = c01; C[r0 + j2] = c02; C[r0 + j3] = c03;
      C[r1 + j] = c10; C[r1 + j1] = c11; C[r1 + j2] = c12; C[r1 + j3] = c13;
      C[r2 + j] = c20; C[r2 + j1] = c21; C[r2 + j2] = c22; C[r2 + j3] = c23;
      C[r3 + j] = c30; C[r3 + j1] = c31; C[r3 + j2] = c32; C[r3 + j3] = c33;
    }
  }
}

// The same for rows in fours and at least 4 columns, as the body of a WebAssembly function of nine numbers:
// C, A, ai, ak, B, bk (places and strides in bytes), rows, inner, columns. The last block of columns overlaps.
// prettier-ignore
function assemble() {
  const [C, A, ai, ak, B, bk, rows, inner, columns, i, j, jj, p0, , , , q, k, out] = Array(19).keys();
  const sums = 19, [b0, b1, a] = [27, 28, 29];
  const get = (local) => [0x20, local], set = (local) => [0x21, local], number = (value) => [0x41, value];
  const add = 0x6a, times = 0x6c, less = 0x48, again = (depth) => [0x0d, depth];
  const load = (offset) => [0xfd, 0x00, 3, offset], store = (offset) => [0xfd, 0x0b, 3, offset];
  const spread = [0xfd, 0x0a, 3, 0];
  const zero = [0xfd, 0x0c, ...Array(16).fill(0)], plus = [0xfd, 0xf0, 0x01], by = [0xfd, 0xf2, 0x01];
  const advance = (local, by) => [get(local), by, add, set(local)];
  const each = (make) => [0, 1, 2, 3].map(make);
  const term = (sum, b) => [get(sum), get(a), get(b), by, plus, set(sum)];
  const body = [
    number(0), set(i), 0x03, 0x40,
    number(0), set(j), 0x03, 0x40,
    get(j), get(columns), number(4), 0x6b, get(j), get(columns), number(4), 0x6b, less, 0x1b, set(jj),
    get(A), get(i), get(ai), times, add, set(p0),
    [1, 2, 3].map((r) => [get(p0 + r - 1), get(ai), add, set(p0 + r)]),
    get(B), get(jj), number(8), times, add, set(q),
    Array.from({ length: 8 }, (_, place) => [zero, set(sums + place)]),
    get(inner), set(k), 0x03, 0x40,
    get(q), load(0), set(b0), get(q), load(16), set(b1),
    each((r) => [get(p0 + r), spread, set(a), term(sums + 2 * r, b0), term(sums + 2 * r + 1, b1),
      advance(p0 + r, get(ak))]),
    advance(q, get(bk)), get(k), number(1), 0x6b, 0x22, k, again(0), 0x0b,
    get(C), get(i), get(columns), times, get(jj), add, number(8), times, add, set(out),
    each((r) => [get(out), get(sums + 2 * r), store(0), get(out), get(sums + 2 * r + 1), store(16),
      advance(out, [get(columns), number(8), times])]),
    advance(j, number(4)), get(j), get(columns), less, again(0), 0x0b,
    advance(i, number(4)), get(i), get(rows), less, again(0), 0x0b, 0x0b,
  ].flat(Infinity);
  const locals = [2, 10, 0x7f, 11, 0x7b];
  const length = locals.length + body.length;
  const code = [1, (length & 0x7f) | 0x80, length >> 7, ...locals, ...body];
  const counted = (size) => (size > 127 ? [(size & 0x7f) | 0x80, size >> 7] : [size]);
  const section = (id, bytes) => [id, ...counted(bytes.length), ...bytes];
  return new Uint8Array([
    0, 0x61, 0x73, 0x6d, 1, 0, 0, 0,
    ...section(1, [1, 0x60, 9, ...Array(9).fill(0x7f), 0]),
    ...section(2, [1, 1, 0x65, 1, 0x6d, 2, 0, 1]),
    ...section(3, [1, 0]),
    ...section(7, [1, 1, 0x66, 0, 0]),
    ...section(10, code),
  ]);
}

function compile(memory) {
  try {
    return new WebAssembly.Instance(new WebAssembly.Module(assemble()), { e: { m: memory } }).exports.f;
  } catch {
    return null;
  }
}

// A place for matrices with the product for them.
export function workspace({ script = false } = {}) {
  const memory =
    script || typeof WebAssembly === "undefined" ? null : new WebAssembly.Memory({ initial: 16 * MEGABYTES });
  const fast = memory && compile(memory);
  let used = 0;
  return {
    fast: Boolean(fast),
    zeros(length) {
      const start = used;
      used += 16 * Math.ceil(length / 2);
      if (!fast || used > memory.buffer.byteLength) return new Float64Array(length);
      return new Float64Array(memory.buffer, start, length).fill(0);
    },
    mark: () => used,
    // Give back all that was asked for since `mark`; arrays from there must not be used any more.
    reset(mark) {
      used = mark;
    },
    multiply(C, A, ai, ak, B, rows, inner, columns) {
      const inside = fast && [A, B, C].every((matrix) => matrix.buffer === memory.buffer);
      if (!inside || rows % 4 || columns < 4) multiplyInScript(C, A, ai, ak, B, rows, inner, columns);
      else fast(C.byteOffset, A.byteOffset, 8 * ai, 8 * ak, B.byteOffset, 8 * columns, rows, inner, columns);
    },
  };
}
