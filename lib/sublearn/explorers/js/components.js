// The two leading principal components of a layer's responses, and responses seen along them.

const ROUNDS = 200;

function times(matrix, vector, size) {
  const out = new Float64Array(size);
  for (let i = 0; i < size; i++) for (let j = 0; j < size; j++) out[i] += matrix[i * size + j] * vector[j];
  return out;
}

const dot = (a, b) => a.reduce((sum, value, place) => sum + value * b[place], 0);

function covariance(responses, count, width, mean) {
  const matrix = new Float64Array(width * width),
    row = new Float64Array(width);
  for (let n = 0; n < count; n++) {
    for (let i = 0; i < width; i++) row[i] = responses[n * width + i] - mean[i];
    for (let i = 0; i < width; i++) {
      if (row[i] !== 0) for (let j = 0; j < width; j++) matrix[i * width + j] += (row[i] * row[j]) / count;
    }
  }
  return matrix;
}

// Power iteration, each direction orthogonal to those found before; the largest entry is made positive.
function leading(matrix, width, before) {
  let vector = Float64Array.from({ length: width }, (_, place) => 1 + (place % 7) / 7),
    value = 0;
  for (let round = 0; round < ROUNDS; round++) {
    let next = times(matrix, vector, width);
    for (const other of before) {
      const along = dot(next, other.vector);
      next = next.map((entry, place) => entry - along * other.vector[place]);
    }
    value = Math.sqrt(dot(next, next)) || 1;
    vector = next.map((entry) => entry / value);
  }
  const largest = vector.reduce((best, entry) => (Math.abs(entry) > Math.abs(best) ? entry : best), 0);
  return { value, vector: vector.map((entry) => entry * Math.sign(largest || 1)) };
}

// Mean, two directions and the share of variance they hold, of responses (count x width).
export function components(responses, count, width) {
  const mean = new Float64Array(width);
  for (let at = 0; at < count * width; at++) mean[at % width] += responses[at] / count;
  const matrix = covariance(responses, count, width, mean);
  const axes = [];
  for (let axis = 0; axis < 2; axis++) axes.push(leading(matrix, width, axes));
  let total = 0;
  for (let i = 0; i < width; i++) total += matrix[i * width + i];
  return {
    mean,
    width,
    vectors: axes.map((axis) => axis.vector),
    share: (axes[0].value + axes[1].value) / (total || 1),
  };
}

// Coordinates (count x 2) of responses along the components.
export function project({ mean, width, vectors }, responses, count) {
  const out = new Float32Array(2 * count);
  for (let n = 0; n < count; n++) {
    for (const [axis, vector] of vectors.entries()) {
      let sum = 0;
      for (let i = 0; i < width; i++) sum += (responses[n * width + i] - mean[i]) * vector[i];
      out[2 * n + axis] = sum;
    }
  }
  return out;
}

// Correlation between two maps along one axis.
export function correlation(first, second, axis) {
  const pick = (map) => map.filter((_, place) => place % 2 === axis);
  const center = (values) => {
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    return values.map((value) => value - mean);
  };
  const [a, b] = [center(pick(first)), center(pick(second))];
  return dot(a, b) / (Math.sqrt(dot(a, a) * dot(b, b)) || 1);
}
