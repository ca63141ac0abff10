// From a face's scores to its name, its bars, and what a threshold stands for.

/**
 * The name of a face: that of the best score if this reaches the threshold, as in recognize.py.
 * @returns {{name: string, score: number|null, known: boolean}} the score is null if there are no names.
 */
export function nameOf(face, names, threshold, unknown) {
  let best = -1;
  face.scores.forEach((score, index) => { if (best < 0 || score > face.scores[best]) best = index; });
  if (best < 0) return { name: unknown, score: null, known: false };
  const known = face.scores[best] >= threshold;
  return { name: known ? names[best] : unknown, score: face.scores[best], known };
}

/**
 * The likeliest names, the unknown person, and all other names together: shares that sum to one.
 * @returns {{label: string, share: number, unknown: boolean}[]}
 */
export function bars(face, names, unknown, shown = 3) {
  const order = names.map((_, index) => index).sort((a, b) => face.probabilities[b] - face.probabilities[a]);
  const rows = order.slice(0, shown).map((index) => ({ label: names[index], share: face.probabilities[index], unknown: false }));
  const others = order.slice(shown).reduce((sum, index) => sum + face.probabilities[index], 0);
  if (order.length > shown) rows.push({ label: order.length === shown + 1 ? "1 other" : `${order.length - shown} others`, share: others, unknown: false });
  rows.push({ label: unknown, share: face.probabilities.at(-1), unknown: true });
  return rows;
}

/**
 * The share of strangers whose best score reaches a threshold; null without calibration.
 * @param {{thresholds: number[], false_accept_rates: number[]}} source thresholds fall, rates rise.
 */
export function falseAcceptRate({ thresholds, false_accept_rates: rates }, threshold) {
  if (!thresholds.length) return null;
  if (threshold > thresholds[0]) return 0;
  const below = thresholds.findIndex((value) => value < threshold);
  if (below < 0) return rates.at(-1);
  if (below === 0) return rates[0];
  const share = (thresholds[below - 1] - threshold) / (thresholds[below - 1] - thresholds[below]);
  return rates[below - 1] + share * (rates[below] - rates[below - 1]);
}

/** The rows of recognize.py's recognized.csv; there, a face of none of a classifier's classes is "none of these". */
export function table(photos, nameFace) {
  return photos.flatMap(({ file, faces }) =>
    faces.map((face, index) => {
      const [left, top, right, bottom] = face.box, { name, score } = nameFace(face);
      return { file, face: index, left, top, right, bottom, name, score: score === null ? "" : Math.round(score * 1e4) / 1e4 };
    }),
  );
}

/** Rows as CSV (RFC 4180). */
export function toCsv(rows) {
  const columns = ["file", "face", "left", "top", "right", "bottom", "name", "score"];
  const quoted = (value) => (/[",\r\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : String(value));
  return [columns, ...rows.map((row) => columns.map((column) => row[column]))].map((row) => row.map(quoted).join(",") + "\r\n").join("");
}
