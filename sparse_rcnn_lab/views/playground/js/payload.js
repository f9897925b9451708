// A run in the explorer's form, as in views/explorer/payload.py. Numbers are rounded in the same way
// but stay typed arrays; data.js accepts both.

import { halfToEven } from "./pixels.js";

const CLASSES_KEPT = 3;
const ATTENTION_KEPT = 8;
const SIMILAR_KEPT = 6;
const REACH = 4;
const GROUP = 12;
const RIVAL = 0.3;
const ROUNDS = 2000; // of the search for the plane; it needs some dozens

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
    const first = i - (i % 4);
    const sum = boxes[first] + boxes[first + 1] + boxes[first + 2] + boxes[first + 3];
    return Number.isFinite(sum) ? clamp(halfToEven(value / step), -32767, 32767) : -32768;
  });
}

// Places of the `count` largest, the largest first; of equals the first.
export function strongest(values, count) {
  const places = [];
  for (let i = 0; i < values.length; i++) {
    if (places.length === count && !(values[i] > values[places[count - 1]])) continue;
    let at = Math.min(places.length, count - 1);
    for (; at > 0 && values[i] > values[places[at - 1]]; at--) places[at] = places[at - 1];
    if (count) places[at] = i;
  }
  return places;
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
  const [axes, values] = mainAxes(covariance, dim);
  const total = mean.reduce((sum, _, d) => sum + covariance[d * dim + d], 0);
  const explained = values.map((value) => Number((Math.max(value, 0) / Math.max(total, 1e-12)).toFixed(4)));
  const plane = { mean, axes, explained, reach: 1 };
  const reach = rows.reduce((most, row) => Math.max(most, ...place(row, plane).map(Math.abs)), 0);
  return { ...plane, reach: reach || 1 };
}

function place(row, { mean, axes }) {
  return axes.map((axis) => {
    let sum = 0;
    for (let d = 0; d < axis.length; d++) sum += axis[d] * (known(row[d]) - mean[d]);
    return sum;
  });
}

// The first two eigenvectors of a covariance, and their eigenvalues, by orthogonal iteration.
function mainAxes(matrix, dim) {
  const axes = [1, 2].map((k) => Float64Array.from({ length: dim }, (_, d) => Math.cos(k * (d + 1))));
  const values = [0, 0];
  for (let round = 0, moved = 1; round < ROUNDS && moved > 1e-20; round++) {
    moved = 0;
    axes.forEach((axis, k) => {
      const next = axis.map((_, d) => dot(matrix.subarray(d * dim, (d + 1) * dim), axis));
      const shared = k ? dot(next, axes[0]) : 0;
      for (let d = 0; k && d < dim; d++) next[d] -= shared * axes[0][d];
      values[k] = Math.sqrt(dot(next, next));
      if (!values[k]) return;
      axes[k] = next.map((value) => value / values[k]);
      moved = Math.max(moved, axis.reduce((sum, value, d) => sum + (value - axes[k][d]) ** 2, 0));
    });
  }
  return [axes.map((axis) => {
    const largest = axis.reduce((most, value) => (Math.abs(value) > Math.abs(most) ? value : most), 0);
    return largest < 0 ? axis.map((value) => -value) : axis;
  }), values];
}

// Four sums at once, since each addition waits for the one before it.
function dot(a, b) {
  let [p, q, r, s, d] = [0, 0, 0, 0, 0];
  for (; d + 3 < a.length; d += 4) {
    p += a[d] * b[d];
    q += a[d + 1] * b[d + 1];
    r += a[d + 2] * b[d + 2];
    s += a[d + 3] * b[d + 3];
  }
  for (; d < a.length; d++) p += a[d] * b[d];
  return p + q + r + s;
}

function featuresOf({ states }, plane, dim, lastBoxes, best) {
  const [n, count] = [best.length, states.length];
  const rows = states.map(({ features }) => Array.from({ length: n }, (_, i) => features.subarray(i * dim, (i + 1) * dim)));
  const points = rows.flat().flatMap((row) => place(row, plane).map((at) => halfToEven((clamp(at / plane.reach, -1.5, 1.5) / 1.5) * 32767)));
  const unit = rows.map((state) => state.map((row) => {
    const values = new Float64Array(dim); // loops: the mapping of typed arrays is slow
    for (let d = 0; d < dim; d++) values[d] = known(row[d]);
    const length = Math.max(Math.sqrt(dot(values, values)), 1e-12);
    for (let d = 0; d < dim; d++) values[d] /= length;
    return values;
  }));
  const signed = (value) => halfToEven(clamp(value, -1, 1) * 127);
  const between = [];
  for (let row = 0; row < n; row++) {
    for (let s = 0; s < count; s++) for (let t = s + 1; t < count; t++) between.push(signed(dot(unit[s][row], unit[t][row])));
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
      for (let j = i + 1; j < n; j++) cosines[i * n + j] = cosines[j * n + i] = dot(state[i], state[j]);
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
    const largest = own.reduce((most, map) => map.reduce((a, b) => (b > a ? b : a), most), 1e-12);
    own.forEach((map, s) => {
      for (let bin = 0, to = (s * n + row) * bins; bin < bins; bin++) found[to++] = halfToEven((map[bin] / largest) * 255);
    });
  }
  return found;
}
