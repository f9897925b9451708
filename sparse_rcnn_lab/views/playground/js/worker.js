// The page's worker thread, which computes everything, one job at a time and in order.
//
// {serial, open: {about, parts}} -> {}; and {progress: 0..1} on the way. parts: name -> base64 of
//   gzip; the runtime's module and wasm, and the graphs
// {serial, image: a Blob or an ImageBitmap} -> {payload, milliseconds}
// {serial, run: an intervention of the latest image} -> {edited}
// {serial, frame: an ImageBitmap, count, stage} -> {found, frame, milliseconds}
// {serial, states: true} -> {ids, states} of the latest run, in original pixels; for tests
// or {serial, problem}, a sentence.

import { openDetector } from "./detector.js";
import { original, payloadOf, planeOf, strongest } from "./payload.js";
import { changesNothing, firstRun, rowsOf, runAgain, switchesOf } from "./rerun.js";

const SHOWN = 960; // pixels of the image that is drawn; boxes stay in its own
const SMALL = 256; // drawings of this size keep every pixel
const TOO_MANY = 120e6; // pixels that no browser has memory for

let detector = null;
let sheet = null; // the canvas of the last image, for the next of the same size
let latest = null; // {pyramid, run, plane, size} of the image that is explored, and what it became: {edited}

async function open({ about, parts }) {
  const { runtime, wasm, ...graphs } = parts;
  const module = URL.createObjectURL(new Blob([await unpacked(runtime)], { type: "text/javascript" }));
  const ort = await import(module);
  ort.env.wasm.numThreads = 1; // more need headers that a file from disk does not have
  ort.env.wasm.wasmBinary = await unpacked(wasm);
  ort.env.logLevel = "error";
  const numbers = (text) => new Float32Array(bytesOf(text).buffer);
  const known = { ...about, boxes: numbers(about.boxes), features: numbers(about.features) };
  detector = await openDetector(ort, known, graphs, unpacked, (progress) => postMessage({ progress }));
  return {};
}

function bytesOf(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
  return bytes;
}

async function unpacked(text) {
  const stream = new Blob([bytesOf(text)]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Upright, its colours as they are stored, over white.
async function pixelsOf(source) {
  let bitmap = source;
  if (source instanceof Blob) {
    const how = { imageOrientation: "from-image", colorSpaceConversion: "none" };
    bitmap = await createImageBitmap(source, how).catch(() => {
      throw new Error(`${source.name ? `"${source.name}"` : "This"} is not an image that this browser can read. Convert it to JPEG or PNG.`);
    });
  }
  const { width, height } = bitmap;
  if (width * height > TOO_MANY) throw new Error(`The photograph has ${width}x${height} pixels, more than 120 megapixels. Make it smaller first.`);
  try {
    if (sheet?.width !== width || sheet.height !== height) sheet = new OffscreenCanvas(width, height);
    const context = sheet.getContext("2d", { willReadFrequently: true });
    context.fillStyle = "#ffffff";
    context.fillRect(0, 0, width, height);
    context.drawImage(bitmap, 0, 0);
    return { image: context.getImageData(0, 0, width, height), bitmap };
  } catch {
    throw new Error(`This browser has no memory for a photograph of ${width}x${height} pixels. Make it smaller first.`);
  }
}

async function shown(bitmap) {
  const scale = Math.min(1, SHOWN / Math.max(bitmap.width, bitmap.height));
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  context.fillStyle = "#ffffff";
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  const small = Math.max(bitmap.width, bitmap.height) <= SMALL;
  return canvas.convertToBlob(small ? { type: "image/png" } : { type: "image/jpeg", quality: 0.88 });
}

async function take(source) {
  const { image, bitmap } = await pixelsOf(source);
  const began = performance.now();
  const pyramid = await detector.pyramid(image);
  const run = await firstRun(detector, pyramid, detector.about.num_proposals);
  const milliseconds = performance.now() - began;
  const plane = planeOf(run, detector.about.dim);
  const size = [image.height, image.width];
  latest = { pyramid, run, plane, size };
  const payload = payloadOf(detector.about, run, size, pyramid.scale, plane, await shown(bitmap));
  bitmap.close();
  return { payload, milliseconds };
}

async function again(intervention) {
  latest.edited = null;
  if (changesNothing(intervention)) return { edited: null };
  const { pyramid, run, plane, size } = latest;
  const edited = await runAgain(detector, pyramid, run, intervention, size);
  latest.edited = edited;
  return { edited: payloadOf(detector.about, edited, size, pyramid.scale, plane) };
}

// Detections of one frame with the first `count` proposals after `stage` stages; nothing else.
async function detect({ frame, count, stage }) {
  const { image } = await pixelsOf(frame);
  const began = performance.now();
  const pyramid = await detector.pyramid(image);
  const { class_names: names } = detector.about;
  let state = detector.proposals(pyramid.size, count);
  const all = rowsOf(count);
  const switches = switchesOf(null, all, detector.about);
  for (let index = 0; index < stage; index++) {
    state = await detector.stage(index, pyramid, state, state.features, all, switches, false);
  }
  const boxes = original(state.boxes, pyramid.scale);
  const scores = state.logits?.map((value) => 1 / (1 + Math.exp(-value)) || 0) ?? []; // what is no number hides no other
  const found = strongest(scores, count).map((at) => {
    const row = Math.floor(at / names.length);
    const [x1, y1, x2, y2] = boxes.subarray(row * 4, row * 4 + 4);
    const box = [Math.max(x1, 0), Math.max(y1, 0), Math.min(x2, image.width), Math.min(y2, image.height)];
    return { box, score: scores[at], label: at % names.length, proposal: row };
  }).filter(({ box: [x1, y1, x2, y2] }) => x2 > x1 && y2 > y1);
  return { found, frame, milliseconds: performance.now() - began };
}

function states() {
  const { ids, states: all } = latest.edited ?? latest.run;
  return { ids, states: all.map((state) => ({ ...state, boxes: original(state.boxes, latest.pyramid.scale) })) };
}

let queue = Promise.resolve();
onmessage = ({ data }) => {
  queue = queue.then(async () => {
    const { serial } = data;
    try {
      const job = data.open ? open(data.open) : data.image ? take(data.image) : data.run ? again(data.run)
        : data.states ? states() : detect(data);
      const answer = await job;
      postMessage({ serial, ...answer }, answer.frame ? [answer.frame] : []);
    } catch (error) {
      const memory = error instanceof RangeError || /memory|alloc/i.test(error?.message ?? "");
      const problem = memory && !data.run ? "This browser tab has not enough memory for that." : error?.message ?? String(error);
      postMessage({ serial, problem });
    }
  });
};
