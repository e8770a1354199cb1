// Where names of arrows go: near their tips, inside the frame, not on each other nor on an arrow.

const LETTER = 7.4,
  HEIGHT = 15; // px of a name's box
const TURNS = [0, 0.6, -0.6, 1.2, -1.2, 1.9, -1.9, 2.6, -2.6, Math.PI];

const overlap = (a, b) =>
  Math.max(0, Math.min(a.right, b.right) - Math.max(a.left, b.left)) *
  Math.max(0, Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top));

// Points along an arrow from the origin, as small boxes that a name should not cover.
function along([x, y]) {
  return Array.from({ length: 12 }, (_, place) => {
    const share = (place + 1) / 12;
    return { left: x * share - 3, right: x * share + 3, top: y * share - 3, bottom: y * share + 3 };
  });
}

// Middles of the names { text, tip, away } in a frame of `half` px around the origin; `tips` are those of all arrows.
export function layout(names, tips, half) {
  const shafts = tips.flatMap(along),
    taken = [];
  return names.map(({ text, tip: [x, y], away }) => {
    const [wide, high] = [(LETTER * text.length) / 2, HEIGHT / 2],
      direction = Math.atan2(y, x);
    const clamp = (value, margin) => Math.max(-half + margin + 3, Math.min(half - margin - 3, value));
    const candidates = [1, 1.5, 2.1].flatMap((factor) =>
      TURNS.map((turn) => {
        const reach = away * factor,
          at = [
            clamp(x + (reach + wide / 2) * Math.cos(direction + turn), wide),
            clamp(y + reach * Math.sin(direction + turn), high),
          ];
        const box = { left: at[0] - wide, right: at[0] + wide, top: at[1] - high, bottom: at[1] + high };
        const covered = taken.reduce((sum, other) => sum + overlap(box, other), 0);
        const crossed = shafts.reduce((sum, other) => sum + overlap(box, other), 0);
        return { at, box, cost: 100 * covered + 10 * crossed + Math.abs(turn) + 4 * (factor - 1) };
      }),
    );
    const best = candidates.reduce((least, one) => (one.cost < least.cost ? one : least));
    taken.push(best.box);
    return best.at;
  });
}
