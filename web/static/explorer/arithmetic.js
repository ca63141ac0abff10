// Sums such as "3,17,42 - 5,8,9 + 1.5*smile": the grammar of gan/latent/arithmetic.py.

const MAX_WEIGHT = 1000, MAX_STRENGTH = 100, MAX_DEPTH = 50;
const TOKEN = /[0-9]*\.[0-9]+|[0-9]+\.?|[-+*(),]|[\p{ID_Start}_]\p{ID_Continue}*/uy;
const isNumber = (text) => /^[0-9.]/.test(text);
const isName = (text) => /^[\p{ID_Start}_]/u.test(text);

/**
 * Parse a sum of faces and directions.
 * @param {string} text
 * @param {number} count of faces, which are numbered from 0.
 * @param {string[]} names of the directions.
 * @returns {{tiles: number[], direction: string|null, weight: number}[]} terms in the order of the text, with
 *   parentheses and weights multiplied out.
 * @throws {Error} whose message marks the place >>like this<<.
 */
export function parseSum(text, count, names = []) {
  const source = text.replaceAll("−", "-").replaceAll("–", "-");
  if (!source.trim()) throw new Error('the expression is empty; write a sum of face numbers, such as "3,17 - 5 + 11"');
  const tokens = [];
  let position = 0, depth = 0;

  const fail = (token, problem) => {
    const before = source.slice(0, token.start).slice(-60), after = source.slice(token.start + token.text.length).slice(0, 60);
    throw new Error(`in the expression ${before}>>${token.text.slice(0, 40)}<<${after}: ${problem}`.split(/\s+/).join(" ").trim());
  };
  for (let at = 0; at < source.length;) {
    if (/\s/.test(source[at])) { at++; continue; }
    TOKEN.lastIndex = at;
    const match = TOKEN.exec(source);
    if (!match) fail({ text: String.fromCodePoint(source.codePointAt(at)), start: at }, "unexpected character");
    tokens.push({ text: match[0], start: at });
    at += match[0].length;
  }
  tokens.push({ text: "", start: source.length });
  const token = () => tokens[position];
  const advance = () => tokens[position < tokens.length - 1 ? position++ : position];

  const sum = (weight, terms) => {
    term(weight, terms);
    while (token().text === "+" || token().text === "-") term((advance().text === "+" ? 1 : -1) * weight, terms);
  };
  const term = (weight, terms) => {
    if (++depth > MAX_DEPTH) fail(token(), `more than ${MAX_DEPTH} nested parentheses, signs and weights`);
    const { text } = token();
    if (text === "-") {
      advance();
      term(-weight, terms);
    } else if (text === "(") {
      const parenthesis = advance();
      sum(weight, terms);
      if (token().text !== ")") fail(token().text ? token() : parenthesis, token().text ? "expected + or - or )" : "this parenthesis is never closed");
      advance();
    } else if (isName(text)) {
      if (!names.includes(text)) fail(token(), `no such direction; the directions of this generator are ${names.join(", ")}`);
      if (Math.abs(weight) > MAX_STRENGTH) fail(token(), `the strength of a direction exceeds ${MAX_STRENGTH}`);
      terms.push({ tiles: [], direction: advance().text, weight });
    } else if (!isNumber(text)) {
      fail(token(), "expected a face number, a direction, a weight or (");
    } else {
      weightOrTiles(weight, terms);
    }
    depth--;
  };
  const weightOrTiles = (weight, terms) => {
    const number = advance();
    if (token().text === "*") {
      advance();
      weight *= Number(number.text);
      if (Math.abs(weight) > MAX_WEIGHT) fail(number, `the product of the weights exceeds ${MAX_WEIGHT}`);
      term(weight, terms);
      return;
    }
    const tiles = [tile(number)];
    while (token().text === ",") {
      advance();
      tiles.push(tile(advance()));
    }
    terms.push({ tiles, direction: null, weight });
  };
  const tile = (number) => {
    if (!isNumber(number.text)) fail(number, "expected a face number");
    if (number.text.includes(".")) fail(number, "a face number is an integer (a weight is followed by *)");
    const value = Number(number.text);
    if (!(value < count)) fail(number, `no such face: they are numbered from 0 to ${count - 1}`);
    return value;
  };

  const terms = [];
  sum(1, terms);
  if (token().text) fail(token(), "expected + or - or the end");
  if (terms.every(({ direction }) => direction)) {
    throw new Error(`the expression ${text.slice(0, 60)} has no face: a direction moves one, as in 17 + smile`);
  }
  return terms;
}

/**
 * The value of a sum.
 * @param {ReturnType<typeof parseSum>} terms
 * @param {function(number): Float32Array} face the vector of a tile.
 * @param {number} size of a vector.
 * @returns {{z: Float32Array, strengths: Object<string, number>}} the sum of the faces, and how far to move it
 *   along each direction.
 */
export function evaluateSum(terms, face, size) {
  const total = new Float64Array(size);
  const strengths = {};
  for (const { tiles, direction, weight } of terms) {
    if (direction) strengths[direction] = (strengths[direction] ?? 0) + weight;
    for (const number of tiles) face(number).forEach((value, i) => { total[i] += (weight * value) / tiles.length; });
  }
  return { z: Float32Array.from(total), strengths };
}
