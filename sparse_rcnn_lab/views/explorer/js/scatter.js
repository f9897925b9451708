// All proposal features in one plane (PCA of all states together), moving as the boxes do.

import { css, parse } from "./colors.js";
import { make, setText, sharp } from "./dom.js";
import { MOST_WAYS, dot, strokeLine, strokeWay } from "./marks.js";

const LOW = 170; // pixels it has at least; it grows to fill its column
const TALL = 520;
const EDGE = 14;

export function createScatter(explorer) {
  const { store, colors } = explorer;
  const canvas = make("canvas", { class: "srl-scatter", role: "img" });
  const words = make("p", { class: "srl-note" });
  const element = make("section", { class: "srl-card", "aria-label": "Features" },
    make("h3", { text: "features (PCA of all stages)" }), canvas, words);
  let width = 300;
  let height = LOW;
  let frame = null; // [left, right, low, high] of all points of all states
  let framed = null;

  // One frame for before and after, so that a point moves only when its feature did.
  function fit() {
    const edited = explorer.edited();
    if (framed?.base === explorer.base() && framed.edited === edited) return;
    framed = { base: explorer.base(), edited };
    const box = [Infinity, -Infinity, Infinity, -Infinity];
    const points = [...framed.base.points, ...(edited?.points ?? [])];
    for (let i = 0; i < points.length; i += 2) {
      const [x, y] = [points[i] / 32767, points[i + 1] / 32767];
      box[0] = Math.min(box[0], x);
      box[1] = Math.max(box[1], x);
      box[2] = Math.min(box[2], y);
      box[3] = Math.max(box[3], y);
    }
    frame = box;
  }

  const toScreen = ([x, y]) => [
    EDGE + ((x - frame[0]) / (frame[1] - frame[0] || 1)) * (width - 2 * EDGE),
    EDGE + ((frame[3] - y) / (frame[3] - frame[2] || 1)) * (height - 2 * EDGE),
  ];

  function way(trace, row, position) {
    const points = [];
    for (let state = 0; state <= Math.floor(position); state++) points.push(toScreen(trace.point(state, row)));
    points.push(toScreen(trace.pointAt(position, row)));
    return points;
  }

  function draw() {
    const trace = explorer.trace();
    canvas.hidden = !trace.hasFeatures;
    if (!trace.hasFeatures) {
      setText(words, trace.missing.features);
      return;
    }
    fit();
    const { position, chosen, hovered, color, threshold, show, trails } = store.state;
    const g = sharp(canvas, width, height);
    g.clearRect(0, 0, width, height);
    const ends = explorer.ends(trace, threshold);
    if (trails && show !== "one") {
      for (const row of [...ends].slice(0, MOST_WAYS)) strokeWay(g, way(trace, row, position), colors.stage, 1.4, 0.85);
    }
    const points = [];
    for (let row = 0; row < trace.count; row++) {
      const id = trace.ids[row];
      if (id === chosen || (show === "one" && chosen !== null) || (show === "detections" && !ends.has(row))) continue;
      const score = trace.scoreAt(position, row);
      const strong = position < 0.5 || score >= threshold;
      points.push([strong, row, score]);
    }
    points.sort((a, b) => a[2] - b[2]);
    for (const [strong, row, score] of points) {
      const [x, y] = toScreen(trace.pointAt(position, row));
      const own = colors.box(trace, position, row, color);
      if (strong && position >= 0.5) {
        dot(g, [x, y], 2.5 + 2.5 * score, own, 0.95);
      } else { // hundreds of them: squares are far faster than discs
        g.fillStyle = css(own, strong ? 0.8 : 0.45);
        g.fillRect(x - 2, y - 2, 4, 4);
      }
    }
    const row = explorer.subject();
    if (row >= 0) {
      const path = way(trace, row, position);
      const own = parse(chosen === null ? explorer.ink() : explorer.style.accent);
      strokeLine(g, path, own, 2, 0.95);
      path.slice(0, -1).forEach((point, state) => dot(g, point, 3.5, colors.stage(state)));
      dot(g, path.at(-1), 6, own);
    }
    const over = hovered === null ? -1 : trace.row(hovered);
    if (over >= 0) ring(g, toScreen(trace.pointAt(position, over)));
    const [a, b] = trace.explained.map((share) => Math.round(share * 100));
    setText(words, `Across: ${a} % of the variance, up: ${b} %. Near points have similar features.`);
  }

  function ring(g, [x, y]) {
    g.beginPath();
    g.arc(x, y, 7, 0, 2 * Math.PI);
    g.strokeStyle = explorer.ink();
    g.lineWidth = 2;
    g.stroke();
  }

  function nearest(event) {
    const trace = explorer.trace();
    if (!trace.hasFeatures || !frame) return null;
    const bounds = canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - bounds.left, event.clientY - bounds.top];
    let best = [14, null];
    for (let row = 0; row < trace.count; row++) {
      const [px, py] = toScreen(trace.pointAt(store.state.position, row));
      const far = Math.hypot(px - x, py - y);
      if (far < best[0]) best = [far, trace.ids[row]];
    }
    return best[1];
  }

  canvas.addEventListener("pointermove", (event) => {
    const id = nearest(event);
    store.set({ hovered: id, peeked: id });
  });
  canvas.addEventListener("pointerleave", () => store.set({ hovered: null, peeked: null }));
  canvas.addEventListener("click", (event) => explorer.choose(nearest(event)));

  return {
    element,
    draw,
    // room: pixels across; spare: pixels left under it (negative: it is too tall).
    layout(room, spare) {
      width = Math.max(200, room);
      height = Math.round(Math.max(LOW, Math.min(height + spare, TALL)));
    },
    // Where a proposal's point is, in CSS pixels of the canvas; for tests.
    place: (row) => toScreen(explorer.trace().pointAt(store.state.position, row)),
  };
}
