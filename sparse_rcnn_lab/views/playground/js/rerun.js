// Runs the stages again with an intervention: intervene/rerun.py and the checks of intervention.py
// for a page without Python.

const MAX_STAGES = 60;

// A run: `ids` of its proposals and `states` 0..S, each {boxes, features, logits, levels,
// attention, roi, filtered} of those proposals; state 0 has boxes and features alone.
export async function firstRun(detector, pyramid, count) {
  const learned = detector.proposals(pyramid.size, count);
  const run = { ids: rowsOf(count), states: [learned] };
  let { features } = learned;
  for (let index = 0; index < detector.about.stages; index++) {
    const last = run.states.at(-1);
    run.states.push(await detector.stage(index, pyramid, last, features, run.ids, switchesOf(null, run.ids, detector.about), true));
    features = run.states.at(-1).features;
  }
  return run;
}

export async function runAgain(detector, pyramid, base, tried, size) {
  check(tried, base, size, detector.about);
  const last = detector.about.stages;
  const stop = Math.min(last + tried.repeat, MAX_STAGES);
  if (tried.start >= stop) throw new Error(`start must be 0..${stop - 1}, found ${tried.start}.`);
  const changes = tried.changes.filter((change) => change.stage <= stop);
  const touched = changes.map((change) => change.stage);
  if (!isNormal(tried.ablation)) touched.push(tried.start);
  const first = Math.min(...touched, stop, last);
  let run = { ids: base.ids, states: base.states.slice(0, first + 1) };
  let fed = run.states.at(-1).features; // what the next stage is given
  for (let state = first; state <= stop; state++) {
    for (const change of changes) {
      if (change.stage === state) [run, fed] = changed(run, fed, change, pyramid.scale, detector.about.dim);
    }
    if (state === stop) break;
    const active = state >= tried.start ? tried.ablation : null;
    const entering = run.states.at(-1);
    const stage = (asked, own, ids) => detector.stage(Math.min(state, last - 1), pyramid, own, fed, asked, switchesOf(active, ids, detector.about), true);
    const moved = state === first && state < last && isNormal(tried.ablation) && !detector.about.overlap ? movedRows(changes, state, run.ids) : null;
    const output = moved ? withRows(base.states[state + 1], await stage(moved, { boxes: pick(entering.boxes, moved, 4) }, moved), moved, run.ids.length)
      : await stage(rowsOf(run.ids.length), entering, run.ids);
    if (active?.freeze_boxes) output.boxes = entering.boxes;
    if (!active?.freeze_features) fed = output.features;
    run = { ids: run.ids, states: [...run.states, output] };
  }
  return run;
}

export function rowsOf(count) { return Array.from({ length: count }, (_, row) => row); }

// The proposals whose boxes were changed at a state, or null where more was changed: no other one is
// affected before the stage after the next, as attention reads only features.
function movedRows(changes, state, ids) {
  const own = changes.filter((change) => change.stage === state);
  if (!own.every(({ drop, feature }) => !drop && !feature)) return null;
  return [...new Set(own.map(({ proposals }) => ids.indexOf(proposals[0])))];
}

// A state with some of its rows exchanged; attention is the same.
function withRows(state, part, rows, n) {
  return Object.fromEntries(Object.entries(state).map(([name, values]) => {
    if (name === "attention") return [name, values];
    const [copy, width] = [values.slice(), values.length / n];
    rows.forEach((row, i) => copy.set(part[name].subarray(i * width, (i + 1) * width), row * width));
    return [name, copy];
  }));
}

export function changesNothing({ changes, ablation, repeat }) {
  return !changes.length && isNormal(ablation) && !repeat;
}

function isNormal({ self_attention, overlap_bias, heads, filters, swap_filters, freeze_boxes, freeze_features }) {
  return self_attention && overlap_bias && heads === null && filters === "own" && !swap_filters.length && !freeze_boxes && !freeze_features;
}

// What an ablation (null: none) changes inside a stage, as the graphs take it.
export function switchesOf(ablation, ids, { heads }) {
  const n = ids.length;
  const attend = Float32Array.of(!ablation || ablation.self_attention ? 1 : 0);
  const headsOn = Float32Array.from({ length: heads }, (_, head) => (ablation?.heads && !ablation.heads.includes(head) ? 0 : 1));
  const order = ids.map((_, row) => (ablation?.filters === "rolled" ? (row + n - 1) % n : row));
  for (const pair of ablation?.swap_filters ?? []) {
    const [a, b] = pair.map((id) => ids.indexOf(id));
    if (a >= 0 && b >= 0) [order[a], order[b]] = [order[b], order[a]];
  }
  const exchange = new Float32Array(n * n);
  if (ablation?.filters === "mean") exchange.fill(1 / n);
  else order.forEach((other, row) => { exchange[row * n + other] = 1; });
  return { attend, headsOn, exchange, overlapBias: !ablation || ablation.overlap_bias };
}

function changed(run, fed, change, [scaleX, scaleY], dim) {
  const named = run.ids.map((id) => change.proposals.includes(id));
  if (change.drop) {
    const rows = [...named.keys()].filter((row) => !named[row]);
    return [select(run, rows), pick(fed, rows, dim)];
  }
  const row = named.indexOf(true);
  if (row < 0) return [run, fed]; // edited first, dropped at an earlier state later
  const last = { ...run.states.at(-1) };
  if (change.box) {
    last.boxes = last.boxes.slice();
    last.boxes.set(change.box.map((value, i) => value * (i % 2 ? scaleY : scaleX)), row * 4);
  }
  let next = fed;
  if (change.feature) {
    const value = change.feature === "zero" ? new Float32Array(dim) : change.feature;
    last.features = last.features.slice();
    last.features.set(value, row * dim);
    next = fed.slice();
    next.set(value, row * dim);
  }
  return [{ ids: run.ids, states: [...run.states.slice(0, -1), last] }, next];
}

// Only these rows, in every state; attention paid to the others is left out.
function select({ ids, states }, rows) {
  const n = ids.length;
  const chosen = states.map((state) => Object.fromEntries(Object.entries(state).map(([name, values]) => {
    const kept = pick(values, rows, values.length / n);
    if (name !== "attention") return [name, kept];
    return [name, Float32Array.from({ length: rows.length ** 2 }, (_, i) => kept[Math.floor(i / rows.length) * n + rows[i % rows.length]])];
  })));
  return { ids: rows.map((row) => ids[row]), states: chosen };
}

function pick(values, rows, width) {
  const kept = new values.constructor(rows.length * width);
  rows.forEach((row, i) => kept.set(values.subarray(row * width, (row + 1) * width), i * width));
  return kept;
}

function check({ changes, ablation }, { ids }, [height, width], { dim }) {
  let left = ids;
  const known = (proposals) => proposals.forEach((id) => {
    if (left.includes(id)) return;
    const why = ids.includes(id) ? "was dropped" : `does not exist; there are ${left.length}`;
    throw new Error(`Proposal ${id} ${why}.`);
  });
  for (const { proposals, drop, box, feature } of changes) {
    known(proposals);
    if (drop) left = left.filter((id) => !proposals.includes(id));
    if (!left.length) throw new Error("At least one proposal must be left; this would drop them all.");
    if (box) checkBox(box, height, width);
    if (Array.isArray(feature) && feature.length !== dim) throw new Error(`A feature of this model is ${dim} finite numbers, found ${feature.length}.`);
  }
  known(ablation.swap_filters.flat());
}

function checkBox(box, height, width) {
  const [x1, y1, x2, y2] = box;
  const words = box.map((value) => Number(value.toPrecision(6))).join(", ");
  if (!box.every(Number.isFinite) || x2 <= x1 || y2 <= y1) {
    throw new Error(`The box ${words} has no area; right must be larger than left and bottom larger than top.`);
  }
  const tooFar = x1 < -width || y1 < -height || x2 > 2 * width || y2 > 2 * height;
  if (tooFar || Math.min(x2, width) <= Math.max(x1, 0) || Math.min(y2, height) <= Math.max(y1, 0)) {
    throw new Error(`The box ${words} lies outside the image of ${width}x${height} px. It must overlap the image and reach no further than its own size beyond.`);
  }
}
