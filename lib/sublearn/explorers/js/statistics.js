// Means with 95 % intervals and paired differences, as sublearn.stats computes them.

function logGamma(x) {
  const series = [
    76.18009172947146, -86.50532032941678, 24.01409824083091, -1.231739572450155, 0.1208650973866179e-2,
    -0.5395239384953e-5,
  ];
  const sum = series.reduce((total, factor, place) => total + factor / (x + 1 + place), 1.000000000190015);
  return (x + 0.5) * Math.log(x + 5.5) - x - 5.5 + Math.log((2.5066282746310007 * sum) / x);
}

// The regularized incomplete beta function by Lentz's continued fraction.
function beta(x, a, b) {
  if (x > (a + 1) / (a + b + 2)) return 1 - beta(1 - x, b, a);
  const front = Math.exp(logGamma(a + b) - logGamma(a) - logGamma(b) + a * Math.log(x) + b * Math.log1p(-x)) / a;
  let fraction = 1,
    c = 1,
    d = 0;
  for (let i = 0; i <= 300; i++) {
    const m = Math.floor(i / 2);
    let numerator = 1;
    if (i)
      numerator =
        i % 2
          ? (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1))
          : (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / (1 + numerator * d || 1e-300);
    c = 1 + numerator / c || 1e-300;
    fraction *= c * d;
    if (Math.abs(1 - c * d) < 1e-15) break;
  }
  return front * (fraction - 1);
}

// The two-sided 95 % quantile of Student's t with so many degrees of freedom.
export function quantile(freedom) {
  let low = 0,
    high = 1e4;
  for (let round = 0; round < 100; round++) {
    const middle = (low + high) / 2;
    if (beta(freedom / (freedom + middle * middle), freedom / 2, 0.5) > 0.05) low = middle;
    else high = middle;
  }
  return low;
}

// What lies between 0 and 1, and whose interval does so too: as SHARES of sublearn.stats.
const SHARES = /^(accuracy|ceiling|share|AUC)/;

// { mean, low, high, n } of the finite values; with fewer than two there is no interval. A share's is Student's on the
// scale of log-odds, with the error of the mean carried over by the delta method.
export function summary(values, name = "") {
  const finite = values.filter((value) => Number.isFinite(value)),
    n = finite.length;
  const mean = n ? finite.reduce((sum, value) => sum + value, 0) / n : null;
  if (n < 2) return { mean, low: null, high: null, n };
  const square = finite.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (n - 1);
  const half = quantile(n - 1) * Math.sqrt(square / n);
  const slope = mean * (1 - mean);
  if (!SHARES.test(name) || slope < 0) return { mean, low: mean - half, high: mean + half, n };
  const farthest = 1 - 0.025 ** (1 / n); // Clopper and Pearson's bound where all are 0 or all are 1
  if (slope === 0) return { mean, low: mean ? 1 - farthest : 0, high: mean ? 1 : farthest, n };
  const [low, high] = [-1, 1].map((sign) => 1 / (1 + Math.exp(-sign * (half / slope)) * ((1 - mean) / mean)));
  return { mean, low, high, n };
}

// Differences of the rows that name the same unit; a unit that only one side has is left out and counted.
export function paired(rows, base) {
  const partners = new Map(base.map(({ unit, value }) => [unit, value]));
  const differences = rows
    .filter(({ unit }) => partners.has(unit))
    .map(({ unit, value }) => value - partners.get(unit));
  return { ...summary(differences), single: rows.length + base.length - 2 * differences.length };
}
