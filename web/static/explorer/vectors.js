// Latent vectors: paths between them, as in gan/latent/vectors.py, and their text in a URL.

import { dot } from "./linear.js";

const norm = (a) => Math.sqrt(dot(a, a));

/** The point at t on the straight line from a to b; exactly a at 0 and b at 1. */
function lerp(a, b, t) {
  if (t === 0 || t === 1) return Float32Array.from(t ? b : a);
  return Float32Array.from(a, (value, i) => value + (b[i] - value) * t);
}

/**
 * The point at t on the arc from a to b (Shoemake 1985), whose norm changes linearly; exactly a at 0 and b at 1.
 * Parallel and zero vectors are interpolated linearly.
 */
export function slerp(a, b, t) {
  if (t === 0 || t === 1) return lerp(a, b, t);
  const normA = norm(a), normB = norm(b);
  if (!normA || !normB) return lerp(a, b, t);
  const start = Float64Array.from(a, (value) => value / normA);
  const end = Float64Array.from(b, (value) => value / normB);
  const cosine = dot(start, end);
  const across = end.map((value, i) => value - cosine * start[i]);
  const sine = norm(across);
  if (sine < 1e-12) return lerp(a, b, t);
  const angle = Math.atan2(sine, cosine) * t;
  const length = normA + (normB - normA) * Math.min(Math.max(t, 0), 1);
  return Float32Array.from(start, (value, i) => length * (Math.cos(angle) * value + (Math.sin(angle) * across[i]) / sine));
}

/**
 * A closed or open path through points.
 * @param {Float32Array[]} points two or more.
 * @param {number} steps from one point to the next.
 * @param {boolean} loop whether to return to the first point, and stop one step before it.
 * @returns {Float32Array[]} each point once and the vectors between.
 */
export function path(points, steps, loop) {
  const stops = loop ? [...points, points[0]] : points;
  const vectors = [];
  for (let i = 0; i + 1 < stops.length; i++) {
    for (let step = 0; step < steps; step++) vectors.push(slerp(stops[i], stops[i + 1], step / steps));
  }
  return loop ? vectors : [...vectors, stops.at(-1)];
}

/** A vector as text for a URL: base64url of its float32 values, exact. */
export function toText(z) {
  const bytes = new Uint8Array(Float32Array.from(z).buffer);
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

/** The vector of a text, or null if it is not one of `size` finite values. */
export function fromText(text, size) {
  try {
    const bytes = Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (char) => char.charCodeAt(0));
    const z = new Float32Array(bytes.buffer);
    return z.length === size && z.every(Number.isFinite) ? z : null;
  } catch {
    return null;
  }
}
