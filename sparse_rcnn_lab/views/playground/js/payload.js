// A run as the explorer wants it: views/explorer/payload.py once more. Numbers are rounded as there,
// but stay typed arrays; data.js takes both.

import { halfToEven } from "./pixels.js";

const CLASSES_KEPT = 3;
const ATTENTION_KEPT = 8;
const SIMILAR_KEPT = 6;
const REACH = 4;
const GROUP = 12;
const RIVAL = 0.3;

const sigmoid = (value) => 1 / (1 + Math.exp(-value));
const clamp = (value, low, high) => Math.max(low, Math.min(value, high));
const packed = (shape, data) => ({ shape, data });

// size: (height, width) of the image, to whose pixels `scale` (x, y) led the model's.  plane: see
// planeOf; of the base, for what is compared with it.
export function payloadOf(about, run, size, scale, plane, image = null) {
  const { ids } = run;
  const outputs = run.states.slice(1);
  const [n, stages, classes] = [ids.length, outputs.length, about.class_names.length];
  const step = (REACH * Math.max(...size)) / 32767;
  const boxes = run.states.map((state) => original(state.boxes, scale));
  const kept = Math.min(CLASSES_KEPT, classes);
  const scores = new Uint16Array(stages * n * kept);
  const labels = new Uint16Array(stages * n * kept);
  const best = new Float32Array(n);
  outputs.forEach(({ logits }, s) => {
    for (let row = 0; row < n; row++) {
      const own = logits.subarray(row * classes, (row + 1) * classes).map((value) => sigmoid(Number.isNaN(value) ? -1e4 : value));
      const at = (s * n + row) * kept;
      strongest(own, kept).forEach((label, k) => {
        scores[at + k] = halfToEven(own[label] * 65535);
        labels[at + k] = label;
        if (!k && s === stages - 1) best[row] = own[label];
      });
    }
  });
  const stacked = (name, kind) => kind.from(outputs.flatMap((output) => Array.from(output[name])));
  const matrix = [stages, n, about.roi_size, about.roi_size];
  const missing = { matches: "The page has no ground truth of an image." };
  if (!image) missing.image = "";
  return {
    format: 1,
    model: about.model,
    size,
    stages,
    classes: about.class_names,
    style: about.style,
    notes: notesOf(run),
    missing,
    image,
    ids: packed([n], Uint16Array.from(ids)),
    box_step: step,
    boxes: packed([stages + 1, n, 4], Int16Array.from(boxes.flatMap((state) => inSteps(state, step)))),
    scores: packed([stages, n, kept], scores),
    labels: packed([stages, n, kept], labels),
    levels: packed([stages, n], stacked("levels", Uint8Array).map((level) => level + 2)),
    features: featuresOf(run, plane, about.dim, boxes.at(-1), best),
    attention: attentionOf(outputs, n, about.heads),
    roi: {
      before: packed(matrix, shares(outputs.map((output) => output.roi), n)),
      after: packed(matrix, shares(outputs.map((output) => output.filtered), n)),
    },
    truth: null,
  };
}

export function original(boxes, scale) {
  return boxes.map((value, i) => value * Math.fround(1 / scale[i % 2]));
}

function inSteps(boxes, step) {
  return Array.from(boxes, (value, i) => {
    const own = boxes.subarray(i - (i % 4), i - (i % 4) + 4);
    return own.every(Number.isFinite) ? clamp(halfToEven(value / step), -32767, 32767) : -32768;
  });
}

// Places of the `count` largest, the largest first.
export function strongest(values, count) {
  return Array.from(values.keys()).sort((a, b) => values[b] - values[a] || a - b).slice(0, count);
}

function notesOf({ ids, states }) {
  const broken = (name) => ids.filter((_, row) => states.some((state) => {
    const values = state[name];
    const width = values ? values.length / ids.length : 0;
    return values && !values.subarray(row * width, (row + 1) * width).every(Number.isFinite);
  })).length;
  const words = { boxes: "Boxes", logits: "Scores", features: "Features" };
  return Object.entries(words).map(([name, word]) => [word, broken(name)]).filter(([, count]) => count)
    .map(([word, count]) => `${word} of ${count} proposal${count > 1 ? "s" : ""} are not numbers (NaN).`);
}

const known = (value) => (Number.isFinite(value) ? value : 0);

// The two axes of largest variance of all features of a run (PCA).
export function planeOf({ states }, dim) {
  const rows = states.flatMap(({ features }) => (
    Array.from({ length: features.length / dim }, (_, i) => features.subarray(i * dim, (i + 1) * dim))
  )).filter((row) => row.every(Number.isFinite));
  const mean = new Float64Array(dim);
  for (const row of rows) row.forEach((value, d) => { mean[d] += value / rows.length; });
  const covariance = new Float64Array(dim * dim);
  for (const row of rows) {
    for (let i = 0; i < dim; i++) {
      const part = row[i] - mean[i];
      for (let j = i; j < dim; j++) covariance[i * dim + j] += part * (row[j] - mean[j]);
    }
  }
  for (let i = 0; i < dim; i++) for (let j = 0; j < i; j++) covariance[i * dim + j] = covariance[j * dim + i];
  const { values, vectors } = eigen(covariance, dim);
  const order = strongest(values, 2);
  const axes = order.map((k) => {
    const axis = Float64Array.from({ length: dim }, (_, d) => vectors[d * dim + k]);
    const largest = axis.reduce((most, value) => (Math.abs(value) > Math.abs(most) ? value : most), 0);
    return largest < 0 ? axis.map((value) => -value) : axis;
  });
  const total = values.reduce((sum, value) => sum + Math.max(value, 0), 0);
  const explained = order.map((k) => Number((Math.max(values[k], 0) / Math.max(total, 1e-12)).toFixed(4)));
  const plane = { mean, axes, explained, reach: 1 };
  const reach = rows.reduce((most, row) => Math.max(most, ...place(row, plane).map(Math.abs)), 0);
  return { ...plane, reach: reach || 1 };
}

function place(row, { mean, axes }) {
  return axes.map((axis) => axis.reduce((sum, weight, d) => sum + weight * (known(row[d]) - mean[d]), 0));
}

// Jacobi's method for a symmetric matrix: eigenvalues, and eigenvectors as columns.
function eigen(matrix, n) {
  const a = matrix.slice();
  const vectors = new Float64Array(n * n);
  for (let i = 0; i < n; i++) vectors[i * n + i] = 1;
  const size = Math.sqrt(a.reduce((sum, value) => sum + value * value, 0));
  for (let sweep = 0; sweep < 30; sweep++) {
    let off = 0;
    for (let p = 0; p < n; p++) for (let q = p + 1; q < n; q++) off += a[p * n + q] ** 2;
    if (Math.sqrt(off) <= 1e-12 * size) break;
    for (let p = 0; p < n; p++) {
      for (let q = p + 1; q < n; q++) {
        const apq = a[p * n + q];
        if (Math.abs(apq) <= 1e-15 * size) continue;
        const theta = (a[q * n + q] - a[p * n + p]) / (2 * apq);
        const t = Math.sign(theta || 1) / (Math.abs(theta) + Math.sqrt(theta * theta + 1));
        const c = 1 / Math.sqrt(t * t + 1);
        const s = t * c;
        turn(a, n, p, q, c, s, 1, n);
        turn(a, n, p, q, c, s, n, 1);
        turn(vectors, n, p, q, c, s, 1, n);
      }
    }
  }
  return { values: Float64Array.from({ length: n }, (_, i) => a[i * n + i]), vectors };
}

// Rotates columns p and q (step 1, line n), or rows (step n, line 1).
function turn(matrix, n, p, q, c, s, step, line) {
  for (let i = 0, x = p * step, y = q * step; i < n; i++, x += line, y += line) {
    const [one, other] = [matrix[x], matrix[y]];
    matrix[x] = c * one - s * other;
    matrix[y] = s * one + c * other;
  }
}

function featuresOf({ states }, plane, dim, lastBoxes, best) {
  const [n, count] = [best.length, states.length];
  const rows = states.map(({ features }) => Array.from({ length: n }, (_, i) => features.subarray(i * dim, (i + 1) * dim)));
  const points = rows.flat().flatMap((row) => place(row, plane).map((at) => halfToEven((clamp(at / plane.reach, -1.5, 1.5) / 1.5) * 32767)));
  const unit = rows.map((state) => state.map((row) => {
    const length = Math.sqrt(row.reduce((sum, value) => sum + known(value) ** 2, 0));
    return Float64Array.from(row, (value) => known(value) / Math.max(length, 1e-12));
  }));
  const cosine = (a, b) => {
    let sum = 0;
    for (let d = 0; d < dim; d++) sum += a[d] * b[d];
    return sum;
  };
  const signed = (value) => halfToEven(clamp(value, -1, 1) * 127);
  const between = [];
  for (let row = 0; row < n; row++) {
    for (let s = 0; s < count; s++) for (let t = s + 1; t < count; t++) between.push(signed(cosine(unit[s][row], unit[t][row])));
  }
  const most = Math.min(SIMILAR_KEPT, Math.max(n - 1, 0));
  const near = new Uint16Array(count * n * most);
  const nearCosine = new Int8Array(count * n * most);
  const group = rowsWithRivals(lastBoxes, best);
  const groupCosine = [];
  unit.forEach((state, s) => {
    const cosines = new Float64Array(n * n);
    for (let i = 0; i < n; i++) {
      cosines[i * n + i] = -2;
      for (let j = i + 1; j < n; j++) cosines[i * n + j] = cosines[j * n + i] = cosine(state[i], state[j]);
    }
    for (let i = 0; i < n; i++) {
      strongest(cosines.subarray(i * n, (i + 1) * n), most).forEach((j, k) => {
        near[(s * n + i) * most + k] = j;
        nearCosine[(s * n + i) * most + k] = signed(cosines[i * n + j]);
      });
    }
    group.forEach((i, first) => group.slice(first + 1).forEach((j) => groupCosine.push(signed(cosines[i * n + j]))));
  });
  return {
    points: packed([count, n, 2], Int16Array.from(points)),
    explained: plane.explained,
    between: packed([n, (count * (count - 1)) / 2], Int8Array.from(between)),
    near: packed([count, n, most], near),
    near_cosine: packed([count, n, most], nearCosine),
    group: packed([group.length], Uint16Array.from(group)),
    group_cosine: packed([count, (group.length * (group.length - 1)) / 2], Int8Array.from(groupCosine)),
  };
}

// The best at the last stage, each followed by the proposal outside whose box overlaps it most.
function rowsWithRivals(boxes, best) {
  const chosen = strongest(best, GROUP);
  const rows = [];
  for (const row of chosen) {
    const overlaps = Array.from(best, (_, other) => (chosen.includes(other) || rows.includes(other) ? -1 : overlap(boxes, row, other)));
    const [rival] = strongest(overlaps, 1);
    rows.push(row);
    if (overlaps[rival] >= RIVAL) rows.push(rival);
  }
  return rows;
}

function overlap(boxes, i, j) {
  const [a, b] = [i, j].map((row) => Array.from(boxes.subarray(row * 4, row * 4 + 4), known));
  const both = Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0])) * Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
  const area = (box) => (box[2] - box[0]) * (box[3] - box[1]);
  return both / Math.max(area(a) + area(b) - both, 1e-6);
}

function attentionOf(outputs, n, heads) {
  const most = Math.min(ATTENTION_KEPT, n);
  const index = new Uint16Array(outputs.length * n * most);
  const weight = new Uint8Array(index.length);
  outputs.forEach(({ attention }, s) => {
    for (let row = 0; row < n; row++) {
      const own = attention.subarray(row * n, (row + 1) * n).map(known);
      strongest(own, most).forEach((other, k) => {
        index[(s * n + row) * most + k] = other;
        weight[(s * n + row) * most + k] = halfToEven(clamp(own[other], 0, 1) * 255);
      });
    }
  });
  return { index: packed([outputs.length, n, most], index), weight: packed([outputs.length, n, most], weight), heads };
}

// Of each proposal relative to the largest of all its bins at all stages.
function shares(maps, n) {
  const bins = maps[0].length / n;
  const found = new Uint8Array(maps.length * n * bins);
  for (let row = 0; row < n; row++) {
    const own = maps.map((map) => map.subarray(row * bins, (row + 1) * bins));
    const largest = Math.max(1e-12, ...own.map((map) => Math.max(...map)));
    own.forEach((map, s) => map.forEach((value, bin) => {
      found[(s * n + row) * bins + bin] = halfToEven(clamp(value / largest, 0, 1) * 255);
    }));
  }
  return found;
}
