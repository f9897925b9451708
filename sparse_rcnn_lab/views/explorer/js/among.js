// How similar the proposals are at a stage: the best, each beside the rival that overlaps it most.
// Rivals start similar and drift apart, until one of them is left.

import { css } from "./colors.js";
import { scoreText } from "./data.js";
import { make, setText, sharp } from "./dom.js";

const SQUARE = 160; // pixels
const EDGING = 5; // the classes' colours along two sides

export const cosineText = (value) => scoreText(value).replace("-0", "-");

export function amongMatrix(explorer, state) {
  const { store, colors } = explorer;
  const trace = explorer.trace();
  const rows = Array.from(trace.group);
  const cell = (SQUARE - EDGING - 1) / rows.length;
  const at = (i) => EDGING + 1 + i * cell;
  const canvas = make("canvas", {
    role: "img", class: "srl-among",
    "aria-label": `Cosine between the features of ${rows.length} proposals at ${state ? `stage ${state}` : "the start"}`,
  });
  const g = sharp(canvas, SQUARE, SQUARE);
  const own = explorer.subject();
  rows.forEach((row, i) => {
    g.fillStyle = css(colors.ofClass(trace.label(trace.stages, row)));
    g.fillRect(at(i), 0, Math.max(cell - 1, 1), EDGING);
    g.fillRect(0, at(i), EDGING, Math.max(cell - 1, 1));
    rows.forEach((_, j) => {
      g.fillStyle = css(explorer.heat(Math.max(0, trace.among(state, i, j))));
      g.fillRect(at(j), at(i), cell > 4 ? cell - 0.5 : cell, cell > 4 ? cell - 0.5 : cell);
    });
  });
  const place = rows.indexOf(own);
  if (place >= 0) {
    g.strokeStyle = explorer.style.accent;
    g.lineWidth = 1.5;
    g.strokeRect(EDGING + 1, at(place), SQUARE - EDGING - 2, cell);
    g.strokeRect(at(place), EDGING + 1, cell, SQUARE - EDGING - 2);
  }
  const name = (row) => `${trace.ids[row]} ${trace.className(trace.label(trace.stages, row))}`;
  const rest = "The best proposals, each followed by its rival: the one that overlaps it most.";
  const words = make("p", { class: "srl-note srl-pairs", text: rest });
  const pair = (event) => {
    const bounds = canvas.getBoundingClientRect();
    return [event.clientY - bounds.top, event.clientX - bounds.left]
      .map((v) => Math.floor((v - EDGING - 1) / cell)).map((i) => Math.max(0, Math.min(i, rows.length - 1)));
  };
  canvas.addEventListener("pointermove", (event) => {
    const [i, j] = pair(event);
    store.set({ hovered: trace.ids[rows[i]] });
    setText(words, i === j ? name(rows[i]) : `${name(rows[i])} and ${name(rows[j])}: ${cosineText(trace.among(state, i, j))}`);
  });
  canvas.addEventListener("pointerleave", () => {
    store.set({ hovered: null });
    setText(words, rest);
  });
  canvas.addEventListener("click", (event) => explorer.choose(trace.ids[rows[pair(event)[0]]]));
  return make("div", { class: "srl-amongbox" }, canvas, words);
}
