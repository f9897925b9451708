// A drawing pad: strokes are kept as points; one that closes is filled.

import { make } from "./dom.js";

const SHEET = 480; // pixels
const PAPER = "#f4f1ea";
const LINE = 5;
const CLOSED = 0.35; // ends nearer than this share of the stroke's size close it
const INKS = [["#b3282d", "red"], ["#2b5c8a", "blue"], ["#2f7d4f", "green"], ["#d99a1c", "yellow"], ["#5b3b7a", "violet"], ["#23262b", "black"]];

export function createPad() {
  let strokes = []; // [{ink, points, done}]
  let ink = INKS[0][0];
  let stale = true;
  const canvas = make("canvas", { class: "play-pad", width: SHEET, height: SHEET, "aria-label": "Drawing pad: draw with the pointer" });
  const inks = INKS.map(([color, name]) => make("button", {
    type: "button", class: "play-ink", title: name, "aria-label": name, style: { background: color }, onclick: () => choose(color),
  }));
  const act = (text, title, action) => make("button", { type: "button", text, title, onclick: () => { action(); draw(); } });
  const tools = make("div", { class: "play-tools" }, ...inks,
    act("undo", "Take back the last stroke", () => strokes.pop()), act("clear", "An empty sheet", () => { strokes = []; }));

  function choose(color) {
    ink = color;
    inks.forEach((button, i) => button.setAttribute("aria-pressed", String(INKS[i][0] === color)));
  }

  function draw() {
    const g = canvas.getContext("2d");
    g.fillStyle = PAPER;
    g.fillRect(0, 0, SHEET, SHEET);
    for (const { ink: own, points, done } of strokes) {
      const path = new Path2D();
      points.forEach(([x, y], i) => (i ? path.lineTo(x, y) : path.moveTo(x, y)));
      Object.assign(g, { strokeStyle: own, fillStyle: own, lineWidth: LINE, lineJoin: "round", lineCap: "round" });
      if (done && closes(points)) {
        path.closePath();
        g.fill(path);
      }
      g.stroke(path);
    }
    stale = true;
  }

  const place = (event) => {
    const bounds = canvas.getBoundingClientRect();
    return [(event.clientX - bounds.left) * (SHEET / bounds.width), (event.clientY - bounds.top) * (SHEET / bounds.height)];
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !event.isPrimary) return; // a second finger draws nothing
    canvas.setPointerCapture(event.pointerId);
    strokes.push({ ink, points: [place(event)], done: false });
    draw();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!event.isPrimary || !strokes.at(-1) || strokes.at(-1).done) return;
    strokes.at(-1).points.push(place(event));
    draw();
  });
  for (const kind of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(kind, (event) => {
      if (!event.isPrimary) return;
      if (strokes.length) strokes.at(-1).done = true;
      draw();
    });
  }
  choose(ink);
  draw();
  return {
    canvas, tools, width: SHEET,
    // The drawing, once after each time it changed.
    fresh() {
      const now = stale;
      stale = false;
      return now ? canvas : null;
    },
  };
}

function closes(points) {
  const [xs, ys] = [0, 1].map((i) => points.map((point) => point[i]));
  const size = Math.max(Math.max(...xs) - Math.min(...xs), Math.max(...ys) - Math.min(...ys));
  return points.length > 8 && Math.hypot(xs[0] - xs.at(-1), ys[0] - ys.at(-1)) < CLOSED * size;
}
