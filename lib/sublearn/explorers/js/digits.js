// The 8 x 8 digits, from the text in which Python packed them.

// Bytes from base 85 (RFC 1924): five letters for four bytes.
function bytesOf(text) {
  const letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~";
  const digit = Object.fromEntries([...letters].map((letter, place) => [letter, place]));
  const count = Math.floor((text.length * 4) / 5),
    view = new DataView(new ArrayBuffer(count + 4));
  for (let at = 0, place = 0; at < text.length; at += 5, place += 4) {
    view.setUint32(
      place,
      [...text.slice(at, at + 5).padEnd(5, "~")].reduce((sum, letter) => sum * 85 + digit[letter], 0),
    );
  }
  return new Uint8Array(view.buffer, 0, count);
}

// The digits as Python packed them: sorted by label, pixel by pixel over all images, deflated, in base 85.
export async function unpack({ pixels, train, test }) {
  const packed = bytesOf(pixels);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  const made = {};
  let offset = 0;
  for (const [part, counts] of [
    ["train", train],
    ["test", test],
  ]) {
    const count = counts.reduce((sum, size) => sum + size, 0),
      images = new Float64Array(64 * count);
    for (let p = 0; p < 64; p++)
      for (let i = 0; i < count; i++) images[64 * i + p] = bytes[offset + p * count + i] / 8 - 1;
    made[part] = images;
    made[`${part}Labels`] = counts.flatMap((size, label) => new Array(size).fill(label));
    offset += 64 * count;
  }
  return made;
}
