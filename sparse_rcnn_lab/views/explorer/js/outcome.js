// What a change did to the detections of the last stage, in words that can be clicked.

import { scoreText } from "./data.js";
import { make } from "./dom.js";

const LEAST_CHANGE = 0.03; // smaller changes of a score are not listed
const SAME = 0.9; // lowest IoU of a box that stayed

export function outcome(explorer) {
  const [before, after] = [explorer.base(), explorer.edited()];
  const { threshold } = explorer.store.state;
  const ids = new Set();
  for (const row of explorer.ends(before, threshold)) ids.add(before.ids[row]);
  for (const row of explorer.ends(after, threshold)) ids.add(after.ids[row]);
  const told = [];
  for (const id of ids) {
    const [was, now] = [ending(before, id), ending(after, id)];
    const there = [was, now].map((one) => one !== null && one.score >= threshold);
    const line = say(was, now, there);
    if (line) told.push({ id, ...line });
  }
  return told.sort((a, b) => b.weight - a.weight).slice(0, 20);
}

function ending(trace, id) {
  const row = trace.row(id);
  if (row < 0) return null;
  return {
    score: trace.score(trace.stages, row),
    name: trace.className(trace.label(trace.stages, row)),
    box: trace.box(trace.stages, row),
  };
}

function say(was, now, [before, after]) {
  const words = (one) => (one ? `${one.name} ${scoreText(one.score)}` : "dropped");
  if (before && !after) return { mark: "−", text: `${words(was)} → ${words(now)}`, kind: "lost", weight: 3 };
  if (!before && after) return { mark: "+", text: was ? `${words(was)} → ${words(now)}` : words(now), kind: "new", weight: 3 };
  const change = Math.abs(now.score - was.score);
  const overlap = was.box && now.box ? iou(was.box, now.box) : 0;
  if (now.name === was.name && change < LEAST_CHANGE && overlap >= SAME) return null;
  const moved = overlap < SAME ? ", moved" : "";
  return { mark: "~", text: `${words(was)} → ${words(now)}${moved}`, kind: "other", weight: 1 + change + (1 - overlap) };
}

export function iou(a, b) {
  const w = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
  const h = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  if (w <= 0 || h <= 0) return 0;
  const area = (box) => (box[2] - box[0]) * (box[3] - box[1]);
  return (w * h) / (area(a) + area(b) - w * h);
}

export function outcomeList(explorer) {
  const { store } = explorer;
  const told = outcome(explorer);
  if (!told.length) return [make("p", { class: "srl-note", text: "The detections of the last stage stay as they were." })];
  return told.map(({ id, mark, text, kind }) => make("button", {
    type: "button", class: `srl-item srl-${kind}`,
    onclick: () => explorer.choose(id),
    onpointerenter: () => store.set({ hovered: id }),
    onpointerleave: () => store.set({ hovered: null }),
  }, make("b", { text: mark }), make("span", { text }), make("small", { text: `proposal ${id}` })));
}
