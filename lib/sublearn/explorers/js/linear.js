// Two layers in the plane, solved: what a student that matches auxiliary logits learns. Matrices are lists of rows.

export const column = (matrix, place) => matrix.map((row) => row[place]);
export const dot = (a, b) => a.reduce((sum, value, place) => sum + value * b[place], 0);
export const norm = (vector) => Math.sqrt(dot(vector, vector));
export const product = (a, b) => a.map((row) => b[0].map((_, place) => dot(row, column(b, place))));

// The projector (2 x 2) onto the span of one or two columns; singular values below 1e-10 of the largest count as 0.
export function projector(columns) {
  const [first, second = [0, 0]] = columns;
  const size = dot(first, first) + dot(second, second),
    area = Math.abs(first[0] * second[1] - first[1] * second[0]);
  if (size === 0)
    return [
      [0, 0],
      [0, 0],
    ];
  if (area > 1e-10 * size)
    return [
      [1, 0],
      [0, 1],
    ];
  const longer = norm(first) >= norm(second) ? first : second,
    [x, y] = longer.map((value) => value / norm(longer));
  return [
    [x * x, x * y],
    [x * y, y * y],
  ];
}

// The angle between two vectors in degrees; null where one is zero.
export function angle(a, b) {
  const lengths = norm(a) * norm(b);
  return lengths > 1e-12 ? (Math.acos(Math.max(-1, Math.min(1, dot(a, b) / lengths))) * 180) / Math.PI : null;
}

// Teacher A = W1 W2, its minimum-norm student A' = W1 P W2, and how far their class columns are apart.
export function solve(hidden, heads, logits) {
  const aux = Array.from({ length: logits }, (_, place) => column(heads, place + 1));
  const P = projector(aux),
    copied = product(hidden, P);
  const teacher = product(hidden, heads),
    student = product(copied, heads);
  const [w, through] = [column(heads, 0), product(P, heads).map((row) => row[0])];
  const [target, imitated] = [column(teacher, 0), column(student, 0)];
  const gap = norm(target.map((value, place) => value - imitated[place]));
  return {
    teacher,
    student,
    copied,
    angle: angle(target, imitated),
    error: norm(target) ? gap / norm(target) : null,
    share: dot(w, w) ? dot(through, w) / dot(w, w) : null,
  };
}

// One row of hidden weights: the teacher moves by `step`, its auxiliary logit reports step . teacherHead, and the
// student moves along its own head by as much, in such units that equal heads give the step projected on that line.
export function imitation(step, teacherHead, studentHead) {
  const report = dot(step, teacherHead),
    unit = norm(teacherHead) * norm(studentHead);
  const moved = studentHead.map((value) => (unit > 1e-12 ? (report * value) / unit : 0));
  return { moved, inner: dot(moved, step), report };
}
