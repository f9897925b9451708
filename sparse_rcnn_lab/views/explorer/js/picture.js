// The image with its boxes, on one canvas. Two of them are shown side by side to compare.

import { css, parse } from "./colors.js";
import { make, sharp } from "./dom.js";
import { iou } from "./outcome.js";
import { MOST_WAYS, dot, drawGrid, drawLabels, handle, strokeBox, strokeLine, strokeWay } from "./marks.js";

const MARGIN = 8; // pixels around the image, so that a box on its edge is seen whole
const STRETCH = 5; // longer images than this are squeezed: 10 x 4000 pixels show nothing otherwise
const DETECTED = 0.5; // lowest opacity of a detection
const NEAR = 6; // pixels from a line that count as on it
const ALIKE = 0.5; // lowest IoU of boxes that look like one

export function createPicture(explorer) {
  const { store, colors, sheet } = explorer;
  const canvas = make("canvas", { class: "srl-canvas", role: "img", tabindex: "0" });
  const accent = parse(explorer.style.accent);
  const light = parse(explorer.style.light);
  let trace = null;
  let view = { scaleX: 1, scaleY: 1, left: 0, top: 0, width: 0, height: 0 };
  let shown = []; // labels drawn last
  let scaled = null; // {image, sheet}: the image at the size it is shown
  let ordered = { state: -1, rows: [] };

  // A run with more stages beside one with fewer: that one stays at its end.
  const place = () => Math.min(store.state.position, trace.stages);
  const toScreen = (box) => box && [
    view.left + box[0] * view.scaleX, view.top + box[1] * view.scaleY,
    view.left + box[2] * view.scaleX, view.top + box[3] * view.scaleY,
  ];
  const centre = (box) => [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2];

  function layout(width, tallest) {
    let [w, h] = [trace.width, trace.height];
    if (h > STRETCH * w) w = h / STRETCH;
    if (w > STRETCH * h) h = w / STRETCH;
    const scale = Math.min((width - 2 * MARGIN) / w, (tallest - 2 * MARGIN) / h);
    view.width = width;
    view.height = Math.round(h * scale + 2 * MARGIN);
    view.scaleX = (w * scale) / trace.width;
    view.scaleY = (h * scale) / trace.height;
    view.left = (width - w * scale) / 2;
    view.top = MARGIN;
  }

  // Weakest first, so that the strong ones end on top.
  function byScore(state) {
    if (ordered.state !== state || ordered.trace !== trace) {
      const rows = Array.from({ length: trace.count }, (_, row) => row);
      rows.sort((a, b) => trace.score(state, a) - trace.score(state, b));
      ordered = { state, rows, trace };
    }
    return ordered.rows;
  }

  function visibleRows() {
    const { show, chosen, threshold } = store.state;
    if (show === "one" && chosen !== null) return [trace.row(chosen)].filter((row) => row >= 0);
    const rows = byScore(Math.max(1, Math.round(place())));
    if (show !== "detections") return rows;
    const ends = explorer.ends(trace, threshold);
    return rows.filter((row) => ends.has(row));
  }

  function draw() {
    const g = sharp(canvas, view.width, view.height);
    g.fillStyle = sheet();
    g.fillRect(0, 0, view.width, view.height);
    drawImage(g);
    drawBoxes(g);
    drawTruth(g);
    explorer.ghosts?.(g, trace, toScreen);
    drawChosen(g);
    drawAllLabels(g);
  }

  // The image is scaled once, not in every frame.
  function drawImage(g) {
    const image = explorer.image();
    const [w, h] = [trace.width * view.scaleX, trace.height * view.scaleY];
    if (!image) {
      g.fillStyle = "rgba(128,128,128,.18)";
      g.fillRect(view.left, view.top, w, h);
      return;
    }
    const ratio = canvas.width / view.width;
    const [wide, high] = [Math.max(1, Math.round(w * ratio)), Math.max(1, Math.round(h * ratio))];
    if (scaled?.image !== image || scaled.sheet.width !== wide || scaled.sheet.height !== high) {
      scaled = { image, sheet: make("canvas", { width: wide, height: high }) };
      const own = scaled.sheet.getContext("2d");
      own.imageSmoothingEnabled = view.scaleX < 2.5; // pixels of a small drawing stay pixels
      own.imageSmoothingQuality = "high";
      own.drawImage(image, 0, 0, wide, high);
    }
    g.drawImage(scaled.sheet, view.left, view.top, w, h);
  }

  function drawBoxes(g) {
    const { threshold, chosen, color, trails, show } = store.state;
    const position = place();
    const full = Math.max(2.4, Math.min(view.width / 220, 5));
    const rows = visibleRows();
    if (trails && show !== "one") drawTrails(g);
    for (const row of rows) {
      if (trace.ids[row] === chosen) continue;
      const box = toScreen(trace.boxAt(position, row));
      if (!box) continue;
      const [alpha, width] = strength(trace.scoreAt(position, row), position, threshold, full);
      strokeBox(g, box, colors.box(trace, position, row, color, colors.learned), width, alpha);
    }
  }

  // Opacity and line width say the score. The learned proposals have none yet: all alike.
  function strength(score, position, threshold, full) {
    const known = Math.min(position, 1);
    const faint = explorer.style.faintest;
    let alpha = faint + (1 - faint) * score;
    if (score >= threshold) alpha = Math.max(alpha, DETECTED);
    alpha = explorer.style.learnedOpacity * (1 - known) + alpha * known;
    return [alpha, Math.max(explorer.style.minLine, full * (0.5 + 0.5 * score * known))];
  }

  function way(row, last) {
    const points = [];
    for (let state = 0; state <= Math.floor(last); state++) {
      const box = toScreen(trace.box(state, row));
      if (box) points.push(centre(box));
    }
    const now = toScreen(trace.boxAt(last, row));
    if (now && last > Math.floor(last)) points.push(centre(now));
    return points;
  }

  function drawTrails(g) {
    const { threshold, chosen } = store.state;
    const position = place();
    for (const row of [...explorer.ends(trace, threshold)].slice(0, MOST_WAYS)) {
      if (trace.ids[row] !== chosen) strokeWay(g, way(row, position), colors.stage, 1.8, 0.9);
    }
  }

  function drawTruth(g) {
    if (!store.state.truth) return;
    const dash = explorer.style.truthDash.map((length) => length * 2);
    for (const box of trace.truth) strokeBox(g, toScreen(box), parse(explorer.style.truth), 2, 0.95, dash);
  }

  function drawChosen(g) {
    const { chosen, hovered, peeked, tab, trails } = store.state;
    const position = place();
    const over = hovered === null || hovered === chosen ? -1 : trace.row(hovered);
    const own = chosen === null ? light : accent;
    if (over >= 0) {
      const box = toScreen(trace.boxAt(position, over));
      if (box) strokeBox(g, box, light, 2.5, 1);
    }
    const row = trace.row(chosen ?? peeked);
    if (row < 0) return;
    const state = Math.round(position);
    const now = toScreen(explorer.draft(trace, row) ?? trace.boxAt(position, row));
    if (!now) return;
    if (tab === "roi" || tab === "filters") drawRoi(g, row, state);
    if (trails) {
      for (let past = 0; past < Math.floor(position + 1e-6); past++) {
        const box = toScreen(trace.box(past, row));
        if (box) strokeBox(g, box, colors.line(past), 1.5, 0.55);
      }
    }
    if (tab === "attention") drawAttention(g, row, state, position);
    strokeBox(g, now, own, 3, 1);
    if (trails) {
      const points = way(row, position);
      strokeLine(g, points, own, 2, 0.95);
      points.forEach((point, i) => dot(g, point, 3.5, colors.stage(Math.min(i, Math.ceil(position)))));
    }
    if (chosen !== null && explorer.editable(trace)) {
      for (const x of [now[0], now[2]]) for (const y of [now[1], now[3]]) handle(g, [x, y], accent);
    }
  }

  // A stage pools where the box was when it came in.
  function drawRoi(g, row, state) {
    const box = toScreen(trace.box(Math.max(state - 1, 0), row));
    if (!box || state < 1) return;
    const kind = store.state.tab === "filters" ? "after" : "before";
    drawGrid(g, box, trace.roiSide, trace.map(kind, state, row), (value) => css(explorer.heat(value), 0.15 + 0.5 * value));
  }

  function drawAttention(g, row, state, position) {
    const partners = trace.attention(state, row);
    const strongest = partners[0]?.weight || 1;
    const from = toScreen(trace.boxAt(position, row));
    // The weakest first: the strongest line ends on top.
    for (const { row: other, weight } of [...partners].reverse()) {
      const box = toScreen(trace.boxAt(position, other));
      if (!box || other === row) continue;
      const share = weight / strongest;
      strokeBox(g, box, light, 1.5, 0.25 + 0.55 * share);
      strokeLine(g, [centre(from), centre(box)], light, 1 + 4 * share, 0.35 + 0.6 * share);
      dot(g, centre(box), 3 + 2 * share, light);
    }
  }

  // Labels stand still where boxes stand still: at a state, not on the way.
  function drawAllLabels(g) {
    shown = [];
    const { threshold, chosen, hovered, color } = store.state;
    const position = place();
    const state = Math.round(position);
    const still = Math.abs(position - state) < 1e-3;
    const labels = [];
    const add = (row, own) => {
      const box = toScreen(explorer.draft(trace, row) ?? trace.boxAt(position, row));
      if (box) labels.push({ box, text: `${trace.ids[row]} · ${trace.words(state, row, threshold)}`, color: own });
    };
    const rowOf = (id) => (id === null ? -1 : trace.row(id));
    const [one, over] = [rowOf(chosen), rowOf(hovered)];
    if (one >= 0) add(one, accent);
    if (over >= 0 && over !== one) add(over, light);
    if (still && state > 0) {
      const visible = new Set(visibleRows());
      const seen = new Set([one, over]);
      for (const { row } of trace.detections(state, threshold)) {
        const box = toScreen(trace.boxAt(position, row));
        if (!visible.has(row) || seen.has(row) || !box) continue;
        seen.add(row);
        labels.push({ box, text: trace.words(state, row, threshold), color: colors.box(trace, state, row, color) });
      }
    }
    const slim = trace.width * view.scaleX < 200 ? view.left : 0;
    const frame = [
      view.left - slim, view.top,
      view.left + trace.width * view.scaleX + slim, view.top + trace.height * view.scaleY,
    ];
    shown = drawLabels(g, labels.slice(0, 60), frame);
  }

  // Rows at a place, the one a person most likely means first: detections before the rest; a line
  // under the pointer, then the smallest box around it. Of boxes that lie on each other the best
  // comes first, its rivals after all others.
  function rowsAt(x, y) {
    const { threshold } = store.state;
    const position = place();
    const found = [];
    for (const row of visibleRows()) {
      const box = toScreen(trace.boxAt(position, row));
      if (!box) continue;
      const [x1, y1, x2, y2] = box;
      if (x < x1 - NEAR || x > x2 + NEAR || y < y1 - NEAR || y > y2 + NEAR) continue;
      const edge = Math.min(Math.abs(x - x1), Math.abs(x - x2), Math.abs(y - y1), Math.abs(y - y2));
      const weak = trace.scoreAt(position, row) < threshold && position >= 1;
      const inside = edge <= NEAR ? 0 : 1;
      // The learned proposals have no score yet: what they end with.
      const score = trace.scoreAt(position >= 1 ? position : trace.stages, row);
      const area = (x2 - x1) * (y2 - y1);
      found.push({ row, box, score, order: [weak ? 1 : 0, inside, 0, inside ? area : edge] });
    }
    for (const one of found) {
      const rival = (other) => other.score > one.score && other.order[1] <= one.order[1] && iou(other.box, one.box) > ALIKE;
      if (found.some(rival)) one.order[2] = 1;
    }
    found.sort((a, b) => a.order.map((v, i) => v - b.order[i]).find((v) => v) ?? 0);
    return found.map(({ row }) => row);
  }

  return {
    canvas,
    layout,
    draw,
    rowsAt,
    toScreen,
    use(next) { trace = next; },
    get trace() { return trace; },
    get labels() { return shown; },
    toImage: (x, y) => [(x - view.left) / view.scaleX, (y - view.top) / view.scaleY],
  };
}
