// The product of two matrices, compiled to WebAssembly (the language is AssemblyScript; `make bundle` compiles it).
//
// The same loops as in product.js, for eight results of a row at once, two in each SIMD register. Places are in bytes,
// strides in numbers of 8 bytes. There must be at least 8 columns; the last eight overlap those before them.

export function multiply(
  out: usize,
  a: usize,
  rowStride: i32,
  innerStride: i32,
  b: usize,
  rows: i32,
  inner: i32,
  columns: i32,
): void {
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j += 8) {
      const first = min(j, columns - 8);
      let sum0 = f64x2.splat(0);
      let sum1 = f64x2.splat(0);
      let sum2 = f64x2.splat(0);
      let sum3 = f64x2.splat(0);
      let left = a + 8 * i * rowStride;
      let right = b + 8 * first;
      for (let k = 0; k < inner; k++) {
        const factor = v128.load64_splat(left);
        sum0 = f64x2.add(sum0, f64x2.mul(factor, v128.load(right)));
        sum1 = f64x2.add(sum1, f64x2.mul(factor, v128.load(right, 16)));
        sum2 = f64x2.add(sum2, f64x2.mul(factor, v128.load(right, 32)));
        sum3 = f64x2.add(sum3, f64x2.mul(factor, v128.load(right, 48)));
        left += 8 * innerStride;
        right += 8 * columns;
      }
      const result = out + 8 * (i * columns + first);
      v128.store(result, sum0);
      v128.store(result, sum1, 16);
      v128.store(result, sum2, 32);
      v128.store(result, sum3, 48);
    }
  }
}
