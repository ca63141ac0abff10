// Films: GIF by gifenc, video by the browser's own encoder where it has one.

import { applyPalette, GIFEncoder, quantize } from "../vendor/gifenc/gifenc.js";

const VIDEO_TYPES = [
  { type: "video/mp4;codecs=avc1.42E01E", suffix: "mp4" },
  { type: "video/mp4", suffix: "mp4" },
  { type: "video/webm;codecs=vp9", suffix: "webm" },
  { type: "video/webm", suffix: "webm" },
];
export const GIF_FPS = 12.5; // delays in a GIF are whole hundredths of a second
export const VIDEO_FPS = 25;
const BITS_PER_SECOND = 4e6;
const COLOURS = 256;

/** The format of video that this browser can write, or null. */
export function videoType() {
  if (typeof MediaRecorder === "undefined" || !HTMLCanvasElement.prototype.captureStream) return null;
  return VIDEO_TYPES.find(({ type }) => MediaRecorder.isTypeSupported(type)) ?? null;
}

/** A canvas of the size of scaled pictures, and a function that shows a picture on it. */
function screen(frame, scale) {
  const source = document.createElement("canvas"), canvas = document.createElement("canvas");
  source.width = source.height = frame.width;
  canvas.width = canvas.height = frame.width * scale;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  const show = (picture) => {
    source.getContext("2d").putImageData(picture, 0, 0);
    context.drawImage(source, 0, 0, canvas.width, canvas.height);
  };
  return { canvas, context, show };
}

/**
 * Pictures as an animated GIF that repeats.
 * @param {ImageData[]} frames
 * @param {number} scale a whole number.
 * @param {function(number): void} onProgress called with the share that is done.
 * @returns {Promise<Blob>}
 */
export async function encodeGif(frames, scale, onProgress) {
  const { canvas, context, show } = screen(frames[0], scale);
  const gif = GIFEncoder();
  for (const [i, frame] of frames.entries()) {
    show(frame);
    const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
    const palette = quantize(data, COLOURS);
    gif.writeFrame(applyPalette(data, palette), canvas.width, canvas.height, { palette, delay: 1000 / GIF_FPS });
    onProgress((i + 1) / frames.length);
    await new Promise((resolve) => { setTimeout(resolve); });
  }
  gif.finish();
  return new Blob([gif.bytes()], { type: "image/gif" });
}

/**
 * Pictures as a video, recorded as it plays; parameters as for `encodeGif`.
 * @throws {Error} if the browser cannot encode it.
 */
export async function recordVideo(frames, scale, onProgress) {
  const { canvas, show } = screen(frames[0], scale);
  show(frames[0]);
  const stream = canvas.captureStream(0);
  const [track] = stream.getVideoTracks();
  const camera = track.requestFrame ? track : stream; // Firefox has requestFrame on the stream
  const recorder = new MediaRecorder(stream, { mimeType: videoType().type, videoBitsPerSecond: BITS_PER_SECOND });
  const parts = [];
  const ended = new Promise((resolve, reject) => {
    recorder.ondataavailable = ({ data }) => parts.push(data);
    recorder.onstop = resolve;
    recorder.onerror = (event) => reject(event.error ?? new Error("the browser's encoder failed"));
  });
  try {
    recorder.start();
    const start = performance.now();
    for (const [i, frame] of frames.entries()) {
      const wait = start + (1000 * i) / VIDEO_FPS - performance.now();
      await new Promise((resolve) => { setTimeout(resolve, Math.max(wait, 0)); });
      show(frame);
      camera.requestFrame();
      onProgress((i + 1) / frames.length);
    }
    await new Promise((resolve) => { setTimeout(resolve, 1000 / VIDEO_FPS); });
    recorder.stop();
    await ended;
  } finally {
    track.stop(); // which also ends a recording that failed
  }
  return new Blob(parts, { type: videoType().type.split(";")[0] });
}
