// Random numbers by name, the same in every browser and in NumPy: a counter, scrambled (mulberry32).

export const USES = ["start", "own start", "control start", "batches", "noise"];

function scramble(state) {
  let z = Math.imul(state ^ (state >>> 15), state | 1);
  z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
  return (z ^ (z >>> 14)) >>> 0;
}

// The key of a stream: of a seed, of what the numbers are for (a place in USES), and of a tensor or a step.
export function key(seed, use, part) {
  const first = scramble((seed + 0x9e3779b9) | 0);
  return scramble(first ^ scramble((Math.imul(USES.indexOf(use) + 1, 0x85ebca6b) + part) | 0));
}

// Draw number `place` of a stream, in [0, 1), a multiple of 2^-32.
export function uniform(stream, place) {
  return scramble((stream + Math.imul(place + 1, 0x6d2b79f5)) | 0) / 4294967296;
}

// A standard normal draw by Box and Muller, rounded to 32 bits so that libraries' last bits do not matter.
export function normal(stream, place) {
  const radius = Math.sqrt(-2 * Math.log(1 - uniform(stream, 2 * place)));
  return Math.fround(radius * Math.cos(2 * Math.PI * uniform(stream, 2 * place + 1)));
}
