// A payload (payload.py) as lookups: base64 bytes become typed arrays, rows become proposals.
//
// Words used in all files: a *state* is 0 (the learned proposals) to S (what the last stage made
// of them); a *stage* is 1 to S and turns state s - 1 into state s; a *row* is a proposal's place
// in this trace, an *id* its number among the model's learned proposals; *position* is a place on
// the way from state to state, 2.5 being halfway from 2 to 3.

const ARRAYS = {
  int8: Int8Array, uint8: Uint8Array, int16: Int16Array, uint16: Uint16Array,
  float32: Float32Array,
};
const NOT_A_BOX = -32768;

// A name from right to left, in isolates: the score after it would else join it, .92 as 92.
const apart = (name) => (/[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff]/.test(name) ? `\u2068${name}\u2069` : name);

export function unpack(packed) {
  if (!packed) return null;
  if (ArrayBuffer.isView(packed.data)) return packed.data; // of a model in this page
  const text = atob(packed.data);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return new ARRAYS[packed.type](bytes.buffer);
}

export class TraceData {
  constructor(payload) {
    this.payload = payload;
    this.stages = payload.stages;
    [this.height, this.width] = payload.size;
    this.classes = payload.classes.map(apart);
    this.style = payload.style;
    this.notes = payload.notes;
    this.missing = payload.missing;
    this.ids = unpack(payload.ids);
    this.count = this.ids.length;
    this.rows = new Map(Array.from(this.ids, (id, row) => [id, row]));
    this.boxes = unpack(payload.boxes);
    this.step = payload.box_step;
    this.scores = unpack(payload.scores);
    this.labels = unpack(payload.labels);
    this.kept = payload.scores.shape[2]; // classes a proposal and stage
    this.levels = unpack(payload.levels);
    this.readFeatures(payload.features);
    this.readAttention(payload.attention);
    this.readRoi(payload.roi);
    this.readTruth(payload.truth);
  }

  readFeatures(features) {
    this.hasFeatures = Boolean(features);
    if (!features) return;
    this.points = unpack(features.points);
    this.explained = features.explained;
    this.pairs = unpack(features.between);
    this.nearRows = unpack(features.near);
    this.nearCosine = unpack(features.near_cosine);
    this.nearKept = features.near.shape[2];
    this.group = unpack(features.group);
    this.groupPairs = unpack(features.group_cosine);
  }

  readAttention(attention) {
    this.hasAttention = Boolean(attention);
    if (!attention) return;
    this.partners = unpack(attention.index);
    this.weights = unpack(attention.weight);
    this.partnersKept = attention.index.shape[2];
    this.heads = attention.heads;
  }

  readRoi(roi) {
    this.roiBefore = roi ? unpack(roi.before) : null;
    this.roiAfter = roi ? unpack(roi.after) : null;
    this.roiSide = roi ? roi.before.shape[2] : 7;
  }

  readTruth(truth) {
    this.truth = truth ? truth.boxes : [];
    this.truthLabels = truth ? truth.labels : null;
    this.targets = truth ? unpack(truth.target) : null;
    this.ious = truth ? unpack(truth.iou) : null;
    this.matches = truth ? unpack(truth.matches) : null;
  }

  row(id) { return this.rows.get(id) ?? -1; }

  // [x1, y1, x2, y2] in original pixels, or null where the trace holds no number.
  box(state, row) {
    const at = (state * this.count + row) * 4;
    if (this.boxes[at] === NOT_A_BOX) return null;
    return [0, 1, 2, 3].map((i) => this.boxes[at + i] * this.step);
  }

  boxAt(position, row) {
    const [low, high, share] = between(position, this.stages);
    const a = this.box(low, row);
    if (!share) return a;
    const b = this.box(high, row);
    return a && b && a.map((value, i) => value + (b[i] - value) * share);
  }

  // Score 0..1 and label of the k-th best class; the learned proposals (state 0) have none.
  score(state, row, k = 0) {
    return state < 1 ? 0 : this.scores[((state - 1) * this.count + row) * this.kept + k] / 65535;
  }

  label(state, row, k = 0) {
    return state < 1 ? -1 : this.labels[((state - 1) * this.count + row) * this.kept + k];
  }

  scoreAt(position, row) {
    const [low, high, share] = between(position, this.stages);
    const a = this.score(low, row);
    return share ? a + (this.score(high, row) - a) * share : a;
  }

  className(label) { return this.classes[label] ?? ""; }

  // "dog .91", or with all classes that pass: "dog .91 · cat .35".
  words(state, row, threshold = 2) {
    if (state < 1) return "no score yet";
    const parts = [];
    for (let k = 0; k < this.kept; k++) {
      const score = this.score(state, row, k);
      if (k && score < threshold) break;
      parts.push(`${this.className(this.label(state, row, k))} ${scoreText(score)}`);
    }
    return parts.join(" · ");
  }

  // What Trace.detections gives: the best (proposal, class) pairs, best first.
  detections(stage, threshold) {
    const found = [];
    for (let row = 0; stage > 0 && row < this.count; row++) {
      if (this.score(stage, row) < threshold || !this.inside(stage, row)) continue;
      for (let k = 0; k < this.kept && this.score(stage, row, k) >= threshold; k++) {
        found.push({ row, score: this.score(stage, row, k), label: this.label(stage, row, k) });
      }
    }
    return found.sort((a, b) => b.score - a.score).slice(0, this.count);
  }

  // Whether any part of the box is in the image.
  inside(state, row) {
    const box = this.box(state, row);
    if (!box) return false;
    const [x1, y1, x2, y2] = box;
    return Math.min(x2, this.width) > Math.max(x1, 0) && Math.min(y2, this.height) > Math.max(y1, 0);
  }

  level(stage, row) { return stage < 1 ? null : this.levels[(stage - 1) * this.count + row]; }

  // The proposals that a proposal attends to, strongest first: [{row, weight}].
  attention(stage, row) {
    if (!this.hasAttention || stage < 1) return [];
    const at = ((stage - 1) * this.count + row) * this.partnersKept;
    return Array.from({ length: this.partnersKept }, (_, i) => (
      { row: this.partners[at + i], weight: this.weights[at + i] / 255 }
    )).filter((partner) => partner.weight > 0);
  }

  // The proposals with the most similar features at a state: [{row, cosine}].
  near(state, row) {
    if (!this.hasFeatures) return [];
    const at = (state * this.count + row) * this.nearKept;
    return Array.from({ length: this.nearKept }, (_, i) => (
      { row: this.nearRows[at + i], cosine: this.nearCosine[at + i] / 127 }
    ));
  }

  // Cosine of a proposal's own feature at two states.
  between(row, a, b) {
    if (a === b) return 1;
    const states = this.stages + 1;
    return this.pairs[row * pairs(states) + pairAt(a, b, states)] / 127;
  }

  // Cosine of the features of the i-th and the j-th proposal of the group, at a state.
  among(state, i, j) {
    if (i === j) return 1;
    const count = this.group.length;
    return this.groupPairs[state * pairs(count) + pairAt(i, j, count)] / 127;
  }

  // Position in the PCA plane, each axis -1..1.
  point(state, row) {
    const at = (state * this.count + row) * 2;
    return [this.points[at] / 32767, this.points[at + 1] / 32767];
  }

  pointAt(position, row) {
    const [low, high, share] = between(position, this.stages);
    const a = this.point(low, row);
    if (!share) return a;
    const b = this.point(high, row);
    return a.map((value, i) => value + (b[i] - value) * share);
  }

  iou(state, row) { return this.ious ? this.ious[state * this.count + row] / 255 : null; }

  match(stage, row) {
    return !this.matches || stage < 1 ? -1 : this.matches[(stage - 1) * this.count + row];
  }

  // The P x P map of a stage, values 0..1, or null.
  map(kind, stage, row) {
    const values = kind === "before" ? this.roiBefore : this.roiAfter;
    if (!values || stage < 1) return null;
    const size = this.roiSide ** 2;
    const at = ((stage - 1) * this.count + row) * size;
    return Array.from(values.subarray(at, at + size), (value) => value / 255);
  }
}

// Pairs a < b of `count` things, row by row: 01 02 03 12 13 23.
const pairs = (count) => (count * (count - 1)) / 2;

function pairAt(a, b, count) {
  const [low, high] = a < b ? [a, b] : [b, a];
  return low * count - (low * (low + 1)) / 2 + (high - low - 1);
}

function between(position, last) {
  const low = Math.max(0, Math.min(Math.floor(position), last));
  return [low, Math.min(low + 1, last), low < last ? position - low : 0];
}

// .91; 1 only when it rounds to 1 (as views/style.py).
export function scoreText(score) { return score.toFixed(2).replace(/^0/, ""); }
