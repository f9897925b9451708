// Pieces of the image: the content of boxes.

import { css } from "./colors.js";
import { make, sharp } from "./dom.js";

const CELL = 44; // pixels of one crop
const GAP = 4;
const MOST_CELLS = 9;
const MOST_STRIPS = 30;

// Draws the part of the image in `box` into x, y, width, height; outside the image it is empty.
export function drawCrop(g, explorer, box, [x, y, width, height]) {
  const [w, h] = [Math.max(box[2] - box[0], 1), Math.max(box[3] - box[1], 1)];
  g.fillStyle = explorer.sheet();
  g.fillRect(x, y, width, height);
  const image = explorer.image();
  if (!image) return;
  const { width: full, height: tall } = explorer.trace();
  g.save();
  g.beginPath();
  g.rect(x, y, width, height);
  g.clip();
  g.drawImage(image, x - (box[0] * width) / w, y - (box[1] * height) / h, (full * width) / w, (tall * height) / h);
  g.restore();
}

// The content of each detection's box at every state: from wherever a learned proposal looks to a
// framed object. One button per detection.
export function filmStrips(explorer) {
  const { store, colors } = explorer;
  const trace = explorer.trace();
  const every = Math.ceil(trace.stages / MOST_CELLS);
  const states = Array.from({ length: trace.stages + 1 }, (_, state) => state)
    .filter((state) => state % every === 0 || state === trace.stages);
  return [...explorer.ends(trace, store.state.threshold)].slice(0, MOST_STRIPS).map((row) => {
    const id = trace.ids[row];
    const canvas = make("canvas", { role: "img", "aria-label": `What is in the box of proposal ${id} at each stage` });
    const g = sharp(canvas, states.length * (CELL + GAP) - GAP, CELL + 4);
    states.forEach((state, i) => {
      const box = trace.box(state, row);
      const left = i * (CELL + GAP);
      if (box) drawCrop(g, explorer, box, fitted(box, left));
      g.fillStyle = css(colors.stage(state));
      g.fillRect(left, CELL + 1, CELL, 3);
    });
    return make("button", {
      type: "button", class: "srl-film", title: `Choose proposal ${id}`,
      onclick: () => explorer.choose(id),
      onpointerenter: () => store.set({ hovered: id }),
      onpointerleave: () => store.set({ hovered: null }),
    }, canvas, make("span", { text: trace.words(trace.stages, row, store.state.threshold) }));
  });
}

// Draws a box of any shape whole and centred in a square cell.
function fitted(box, left) {
  const [w, h] = [Math.max(box[2] - box[0], 1), Math.max(box[3] - box[1], 1)];
  const scale = CELL / Math.max(w, h);
  const [width, height] = [Math.max(w * scale, 4), Math.max(h * scale, 4)];
  return [left + (CELL - width) / 2, (CELL - height) / 2, width, height];
}
