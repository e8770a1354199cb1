// Numbers as Python embeds them: a byte each, as shares of the largest, in base 64.

export function floats({ scale, codes }) {
  const bytes = Int8Array.from(atob(codes), (letter) => letter.charCodeAt(0));
  return Float32Array.from(bytes, (code) => (code * scale) / 127);
}
