// Linear algebra of small dense matrices, as arrays of rows.

export const dot = (a, b) => {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
};

/** The vector of length 1 in the same direction. */
export const unit = (a) => {
  const length = Math.sqrt(dot(a, a)) || 1;
  return Float64Array.from(a, (value) => value / length);
};

/** Add weight * row row' to a symmetric matrix, in place. */
export function addOuter(matrix, row, weight) {
  for (let i = 0; i < row.length; i++) {
    const factor = weight * row[i];
    if (factor) for (let j = 0; j < row.length; j++) matrix[i][j] += factor * row[j];
  }
}

/** A multiple of the identity matrix. */
export const diagonal = (size, value) =>
  Array.from({ length: size }, (_, i) => Float64Array.from({ length: size }, (_, j) => (i === j ? value : 0)));

/**
 * Solve matrix x = b for each right-hand side b, by Cholesky's decomposition.
 * @param {Float64Array[]} matrix symmetric and positive definite; unchanged.
 * @param {ArrayLike<number>[]} sides
 * @returns {Float64Array[]}
 */
export function solve(matrix, sides) {
  const size = matrix.length;
  const factor = matrix.map((row) => Float64Array.from(row));
  for (let i = 0; i < size; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = factor[i][j];
      for (let k = 0; k < j; k++) sum -= factor[i][k] * factor[j][k];
      factor[i][j] = i === j ? Math.sqrt(sum) : sum / factor[j][j];
    }
  }
  return sides.map((side) => {
    const x = Float64Array.from(side);
    for (let i = 0; i < size; i++) {
      for (let k = 0; k < i; k++) x[i] -= factor[i][k] * x[k];
      x[i] /= factor[i][i];
    }
    for (let i = size - 1; i >= 0; i--) {
      for (let k = i + 1; k < size; k++) x[i] -= factor[k][i] * x[k];
      x[i] /= factor[i][i];
    }
    return x;
  });
}
