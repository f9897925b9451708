// The image with its boxes: draw, move, resize, accept; mouse, pen and finger.

import { css, parse, textOn } from "./colors.js";
import { make, sharp } from "./dom.js";
import { placeLabels } from "./labels.js";

const GRIP = { mouse: 9, touch: 20, pen: 14 }; // pixels around a corner or edge
const WANDER = 4; // pixels that a click may wander
const LEAST = 3; // pixels of the image that a box needs

// color(name): "#rrggbb" of a class.  accept(proposal), named(box): what follows a click, a new box.
export function createSheet(frames, { color, accept, drawn, tallest = 0.66 }) {
  const canvas = make("canvas", { class: "srl-sheet", tabindex: "0", role: "img" });
  const image = new Image();
  let scale = 1, width = 0, height = 0;
  let drag = null; // {kind: "new" | "move" | [x, y], frame, start, box, moved}
  let hover = -1; // proposal under the pointer
  let shown = null;

  image.onload = () => resize();

  function resize() {
    const frame = frames.current();
    if (!frame || !canvas.parentElement) return;
    const room = canvas.parentElement.clientWidth;
    const tall = Math.max(220, Math.round(globalThis.innerHeight * tallest));
    scale = Math.min(room / frame.width, tall / frame.height, 3);
    [width, height] = [Math.round(frame.width * scale), Math.round(frame.height * scale)];
    draw();
  }

  function show() {
    const frame = frames.current();
    if (frame && shown !== frame.url) {
      shown = frame.url;
      image.src = frame.url;
    }
    resize();
    if (!frame) describe();
  }

  function describe() {
    const { at: place, frames: all, chosen, offered, proposals } = frames.state;
    const frame = frames.current();
    const name = (one) => one.name || "unnamed";
    const said = !frame ? "No image yet" : `Image ${place + 1} of ${all.length}: ${frame.boxes.map(name).join(", ") || "no box yet"}`;
    const one = proposals[offered] ? `. Proposal: ${name(proposals[offered])}, Enter accepts` : frame?.boxes[chosen] ? `. Chosen: ${name(frame.boxes[chosen])}` : "";
    canvas.setAttribute("aria-label", said + one);
  }

  const onScreen = (box) => box.map((value) => value * scale);

  function outline(g, box, tone, line, dash = [], alpha = 1) {
    const [x1, y1, x2, y2] = onScreen(box);
    for (const [style, thick] of [["rgba(20,23,28,.7)", line + 2], [tone, line]]) {
      g.globalAlpha = alpha;
      g.lineWidth = thick;
      g.strokeStyle = style;
      g.setLineDash(dash);
      g.strokeRect(x1, y1, x2 - x1, y2 - y1);
    }
    g.setLineDash([]);
    g.globalAlpha = 1;
  }

  function draw() {
    const frame = frames.current();
    if (!frame) return;
    if (!drag) describe();
    const g = sharp(canvas, width, height);
    g.clearRect(0, 0, width, height);
    if (image.complete && image.naturalWidth && shown === frame.url) g.drawImage(image, 0, 0, width, height);
    const { chosen, picked, proposals } = frames.state;
    proposals.forEach((proposal, row) => {
      outline(g, proposal.box, proposal.name ? color(proposal.name) : "#ffffff", row === hover || row === frames.state.offered ? 4 : 2, [6, 4]);
    });
    const boxes = frame.boxes.map((box, row) => (drag?.row === row ? { ...box, box: drag.box } : box));
    if (drag?.kind === "new" && drag.moved) outline(g, drag.box, color(frames.state.name), 2);
    boxes.forEach(({ name, box }, row) => {
      if (row === chosen && picked) {
        g.fillStyle = css(parse(color(name)), 0.16);
        const [x1, y1, x2, y2] = onScreen(box);
        g.fillRect(x1, y1, x2 - x1, y2 - y1);
      }
      outline(g, box, color(name), row === chosen ? 3 : 2);
    });
    if (chosen >= 0 && boxes[chosen]) grips(g, boxes[chosen].box);
    labels(g, [
      ...boxes.map(({ name, box }) => ({ text: name || "?", box, tone: color(name) })),
      ...proposals.map(({ name, box }) => ({ text: `${name || frames.state.name || "object"}?`, box, tone: name ? color(name) : "#ffffff" })),
    ]);
  }

  function grips(g, box) {
    const [x1, y1, x2, y2] = onScreen(box);
    for (const x of [x1, x2]) for (const y of [y1, y2]) {
      g.fillStyle = "#ffffff";
      g.strokeStyle = "#14171c";
      g.lineWidth = 1.5;
      g.beginPath();
      g.rect(x - 4, y - 4, 8, 8);
      g.fill();
      g.stroke();
    }
  }

  function labels(g, marks) {
    g.font = "600 13px system-ui, sans-serif";
    const wanted = marks.map(({ text, box }) => ({ box: onScreen(box), width: g.measureText(text).width + 10, height: 19 }));
    placeLabels(wanted, [0, 0, width, height]).forEach((place, row) => {
      if (!place) return;
      const { text, tone } = marks[row];
      g.fillStyle = tone;
      g.fillRect(place[0], place[1], wanted[row].width, 19);
      g.fillStyle = textOn(parse(tone));
      g.fillText(text, place[0] + 5, place[1] + 14);
    });
  }

  const at = (event) => {
    const bounds = canvas.getBoundingClientRect();
    return [(event.clientX - bounds.left) / scale, (event.clientY - bounds.top) / scale];
  };
  const inside = ([x, y], box) => x >= box[0] && x <= box[2] && y >= box[1] && y <= box[3];
  const area = (box) => (box[2] - box[0]) * (box[3] - box[1]);

  // The smallest of those under a place: what lies in something larger can be reached.
  function under(place, boxes) {
    let best = -1;
    boxes.forEach(({ box }, row) => {
      if (inside(place, box) && (best < 0 || area(box) < area(boxes[best].box))) best = row;
    });
    return best;
  }

  // Which part of the chosen box is at a place: [x index or -1, y index or -1], "move", or null.
  function part([x, y], box, reach) {
    const near = reach / scale;
    if (x < box[0] - near || x > box[2] + near || y < box[1] - near || y > box[3] + near) return null;
    const edge = (low, high, value) => (Math.abs(value - low) <= near ? 0 : Math.abs(value - high) <= near ? 1 : -1);
    const i = edge(box[0], box[2], x), j = edge(box[1], box[3], y);
    if (i < 0 && j < 0) return inside([x, y], box) ? "move" : null;
    return [i < 0 ? -1 : 2 * i, j < 0 ? -1 : 1 + 2 * j];
  }

  const clamp = (value, high) => Math.max(0, Math.min(value, high));

  function dragged(place) {
    const frame = frames.current();
    const [x, y] = [clamp(place[0], frame.width), clamp(place[1], frame.height)];
    if (drag.kind === "new") {
      const [sx, sy] = drag.start;
      return [Math.min(sx, x), Math.min(sy, y), Math.max(sx, x), Math.max(sy, y)];
    }
    const box = [...drag.from];
    if (drag.kind === "move") {
      const dx = Math.max(-box[0], Math.min(place[0] - drag.start[0], frame.width - box[2]));
      const dy = Math.max(-box[1], Math.min(place[1] - drag.start[1], frame.height - box[3]));
      return box.map((value, i) => value + (i % 2 ? dy : dx));
    }
    const [i, j] = drag.kind;
    if (i >= 0) box[i] = x;
    if (j >= 0) box[j] = y;
    return [Math.min(box[0], box[2]), Math.min(box[1], box[3]), Math.max(box[0], box[2]), Math.max(box[1], box[3])];
  }

  canvas.addEventListener("pointerdown", (event) => {
    const frame = frames.current();
    if (!frame || event.button !== 0 || drag) return;
    event.preventDefault();
    canvas.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    const place = at(event);
    const { chosen } = frames.state;
    const own = frame.boxes[chosen]?.box;
    const kind = own ? part(place, own, GRIP[event.pointerType] ?? GRIP.mouse) : null;
    const start = [clamp(place[0], frame.width), clamp(place[1], frame.height)];
    drag = { kind: kind ?? "new", frame, start, from: own, box: own ?? [...start, ...start], row: kind ? chosen : -1, moved: false, id: event.pointerId };
  });

  canvas.addEventListener("pointermove", (event) => {
    const frame = frames.current();
    if (!frame) return;
    const place = at(event);
    if (drag) {
      if (event.pointerId !== drag.id) return;
      const far = Math.hypot(place[0] - drag.start[0], place[1] - drag.start[1]) * scale;
      drag.moved ||= far > WANDER;
      if (drag.moved) {
        drag.box = dragged(place);
        draw();
      }
      return;
    }
    const before = hover;
    hover = under(place, frames.state.proposals);
    const own = frame.boxes[frames.state.chosen]?.box;
    const over = own ? part(place, own, GRIP.mouse) : null;
    if (over === "move") canvas.style.cursor = "move";
    else if (over) canvas.style.cursor = over[0] < 0 ? "ns-resize" : over[1] < 0 ? "ew-resize" : (over[0] === 0) === (over[1] === 1) ? "nwse-resize" : "nesw-resize";
    else canvas.style.cursor = hover >= 0 || under(place, frame.boxes) >= 0 ? "pointer" : "crosshair";
    if (hover !== before) draw();
  });

  canvas.addEventListener("pointercancel", () => { drag = null; draw(); });

  canvas.addEventListener("pointerup", (event) => {
    if (!drag || event.pointerId !== drag.id) return;
    const done = drag;
    drag = null;
    const frame = frames.current();
    // What it began on has gone since, by a key or another hand.
    if (frame !== done.frame || (done.row >= 0 && frame.boxes[done.row]?.box !== done.from)) return draw();
    const place = at(event);
    if (!done.moved) {
      const offered = under(place, frames.state.proposals);
      const own = under(place, frame.boxes);
      if (offered >= 0 && (own < 0 || area(frames.state.proposals[offered].box) <= area(frame.boxes[own].box))) accept(offered);
      else frames.choose(own);
    } else if (done.box[2] - done.box[0] < LEAST || done.box[3] - done.box[1] < LEAST) draw();
    else if (done.kind === "new") drawn(done.box.map((value) => Math.round(value * 10) / 10));
    else {
      const box = done.box.map((value) => Math.round(value * 10) / 10);
      frames.change(frame.boxes.map((one, row) => (row === done.row ? { ...one, box } : one)), done.row);
    }
  });

  canvas.addEventListener("pointerleave", () => { if (hover >= 0) { hover = -1; draw(); } });

  return {
    element: canvas, show, draw, resize,
    cancel() {
      const was = drag !== null;
      drag = null;
      draw();
      return was;
    },
  };
}
