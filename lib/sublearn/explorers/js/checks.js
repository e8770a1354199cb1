// What values a link may give to an explorer: functions from a value to true or false.

export const oneOf = (choices) => (value) => choices.includes(value);
export const numberIn = (low, high) => (value) => Number.isFinite(value) && value >= low && value <= high;
export const wholeIn = (low, high) => (value) => Number.isInteger(value) && value >= low && value <= high;
export const someOf = (choices) => (value) => Array.isArray(value) && value.every(oneOf(choices));
export const text = (longest) => (value) => value.length <= longest;

// Lists of the given lengths, within each other, of numbers of at most `most`.
export function numbers(lengths, most) {
  const [length, ...inner] = lengths;
  const entry = inner.length ? numbers(inner, most) : numberIn(-most, most);
  return (value) => Array.isArray(value) && value.length === length && value.every(entry);
}
