// The Gaussian coordinate u = sqrt(2) erfinv(z) of a latent vector, as in gan/latent/gaussian.py.

const NEAREST_TO_ONE = 1 - 2 ** -24;

// Wichura (1988), algorithm AS 241, from the highest power to the lowest.
const CENTRE_NUMERATOR = [
  2.5090809287301226727e+3, 3.3430575583588128105e+4, 6.7265770927008700853e+4, 4.5921953931549871457e+4,
  1.3731693765509461125e+4, 1.9715909503065514427e+3, 1.3314166789178437745e+2, 3.3871328727963666080e+0,
];
const CENTRE_DENOMINATOR = [
  5.2264952788528545610e+3, 2.8729085735721942674e+4, 3.9307895800092710610e+4, 2.1213794301586595867e+4,
  5.3941960214247511077e+3, 6.8718700749205790830e+2, 4.2313330701600911252e+1, 1,
];
const TAIL_NUMERATOR = [
  7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1, 1.27045825245236838258e+0,
  3.64784832476320460504e+0, 5.76949722146069140550e+0, 4.63033784615654529590e+0, 1.42343711074968357734e+0,
];
const TAIL_DENOMINATOR = [
  1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2, 1.48103976427480074590e-1,
  6.89767334985100004550e-1, 1.67638483018380384940e+0, 2.05319162663775882187e+0, 1,
];
const FAR_NUMERATOR = [
  2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3, 2.65321895265761230930e-2,
  2.96560571828504891230e-1, 1.78482653991729133580e+0, 5.46378491116411436990e+0, 6.65790464350110377720e+0,
];
const FAR_DENOMINATOR = [
  2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5, 7.86869131145613259100e-4,
  1.48753612908506148525e-2, 1.36929880922735805310e-1, 5.99832206555887937690e-1, 1,
];

const polynomial = (coefficients, x) => coefficients.reduce((sum, value) => sum * x + value, 0);

/** The inverse of the standard normal distribution for p in (0, 1), to about 1e-15. */
export function inverseNormal(p) {
  const q = p - 0.5;
  if (Math.abs(q) <= 0.425) {
    const r = 0.180625 - q * q;
    return (q * polynomial(CENTRE_NUMERATOR, r)) / polynomial(CENTRE_DENOMINATOR, r);
  }
  const r = Math.sqrt(-Math.log(q < 0 ? p : 1 - p));
  const x = r <= 5
    ? polynomial(TAIL_NUMERATOR, r - 1.6) / polynomial(TAIL_DENOMINATOR, r - 1.6)
    : polynomial(FAR_NUMERATOR, r - 5) / polynomial(FAR_DENOMINATOR, r - 5);
  return q < 0 ? -x : x;
}

/** The error function, to about 1e-15: its series, and beyond 2.5 a continued fraction. */
export function erf(x) {
  const a = Math.abs(x);
  if (a > 6) return Math.sign(x);
  if (a < 2.5) {
    let term = a, sum = a;
    for (let n = 1; Math.abs(term) > 1e-17 * sum; n++) {
      term *= (-a * a) / n;
      sum += term / (2 * n + 1);
    }
    return (Math.sign(x) * 2 * sum) / Math.sqrt(Math.PI);
  }
  let fraction = 0;
  for (let n = 60; n > 0; n--) fraction = n / 2 / (a + fraction);
  return Math.sign(x) * (1 - Math.exp(-a * a) / ((a + fraction) * Math.sqrt(Math.PI)));
}

const clip = (value, bound) => Math.min(Math.max(value, -bound), bound);

/** u of a latent vector; values outside [-1, 1] count as -1 or 1. */
export const toGaussian = (z) =>
  Float64Array.from(z, (value) => inverseNormal(0.5 + clip(value, NEAREST_TO_ONE) / 2));

/** z of a vector in the Gaussian coordinate, float64 in [-1, 1]. */
const fromGaussian = (u) => Float64Array.from(u, (value) => erf(value / Math.SQRT2));

/**
 * Move a latent vector by a step in u. What a value exceeds [-1, 1] by is set aside and added to the result.
 * @param {ArrayLike<number>} z
 * @param {ArrayLike<number>} step of the same length; where it is 0, the value stays as it is.
 * @returns {Float32Array}
 */
export function moveBy(z, step) {
  const inside = Float64Array.from(z, (value) => clip(value, 1));
  const u = toGaussian(inside);
  const moved = fromGaussian(u.map((value, i) => value + step[i]));
  return Float32Array.from(z, (value, i) => (step[i] === 0 ? value : moved[i] + (value - inside[i])));
}
