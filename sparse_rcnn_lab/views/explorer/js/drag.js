// Dragging the chosen box: a corner resizes, the inside moves. The effect is requested meanwhile.

import { parse } from "./colors.js";
import { withEdit } from "./changes.js";
import { strokeBox, strokeLine } from "./marks.js";

const GRIP = 11; // pixels around a corner
const SLACK = 3; // pixels that a click may wander
const LEAST = 2; // pixels of the image that a box keeps

export function createDrag(explorer, made) {
  const { store } = explorer;
  let grip = null; // {id, state, corner: [x index, y index] or null, from, box, moved, before}
  let draft = null; // {id, state, box}

  const state = () => Math.round(store.state.position);
  const still = () => Math.abs(store.state.position - state()) < 1e-3;

  function editable(trace) {
    return made.live && trace === explorer.trace() && store.state.compare !== "before"
      && still() && state() < trace.stages;
  }

  function chosenBox(picture) {
    const { trace } = picture;
    const row = store.state.chosen === null ? -1 : trace.row(store.state.chosen);
    return row < 0 ? null : explorer.draft(trace, row) ?? trace.box(state(), row);
  }

  // Which part of the chosen box is at a place: a corner, "body", or null.
  function part(picture, [x, y]) {
    const box = chosenBox(picture);
    if (!box) return null;
    const at = picture.toScreen(box);
    for (const i of [0, 2]) for (const j of [1, 3]) if (Math.hypot(at[i] - x, at[j] - y) <= GRIP) return [i, j];
    return x > at[0] && x < at[2] && y > at[1] && y < at[3] ? "body" : null;
  }

  function dragged(picture, [x, y]) {
    const { trace } = picture;
    const [px, py] = picture.toImage(x, y);
    const box = [...grip.box];
    if (grip.corner) {
      const [i, j] = grip.corner;
      box[i] = i ? Math.max(px, box[0] + LEAST) : Math.min(px, box[2] - LEAST);
      box[j] = j === 3 ? Math.max(py, box[1] + LEAST) : Math.min(py, box[3] - LEAST);
      return box;
    }
    // The centre stays in the image, as a box outside it cannot be pooled.
    const dx = Math.max(0, Math.min(grip.centre[0] + px - grip.from[0], trace.width)) - grip.centre[0];
    const dy = Math.max(0, Math.min(grip.centre[1] + py - grip.from[1], trace.height)) - grip.centre[1];
    return box.map((value, i) => value + (i % 2 ? dy : dx));
  }

  function propose(keep) {
    const changes = withEdit(grip.before.changes, draft.id, draft.state, { box: draft.box.map((v) => Math.round(v * 10) / 10) });
    made.attempt({ changes }, keep, grip.before);
  }

  const dragging = {
    take(picture, at) {
      const found = part(picture, at);
      if (!found) return false;
      if (!editable(picture.trace)) {
        if (made.live && picture.trace === explorer.trace() && state() >= picture.trace.stages) explorer.hint?.();
        return false;
      }
      const box = chosenBox(picture);
      grip = {
        id: store.state.chosen, state: state(), corner: found === "body" ? null : found, start: at, from: picture.toImage(...at), box, moved: false,
        centre: [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2], before: made.intervention,
      };
      return true;
    },
    move(picture, at) {
      if (!grip) return false;
      if (!grip.moved && Math.hypot(at[0] - grip.start[0], at[1] - grip.start[1]) < SLACK) return true;
      grip.moved = true;
      store.set({ hovered: null, peeked: null });
      draft = { id: grip.id, state: grip.state, box: dragged(picture, at) };
      propose(false);
      explorer.refresh();
      return true;
    },
    held: () => grip !== null,
    release() {
      const moved = grip?.moved;
      if (moved) propose(true);
      grip = null;
      return Boolean(moved);
    },
    cancel() {
      if (!grip?.moved) return false;
      const { before } = grip;
      grip = null;
      draft = null;
      made.attempt(before, false, before);
      return true;
    },
    cursor(picture, at) {
      const found = editable(picture.trace) ? part(picture, at) : null;
      if (!found) return null;
      if (found === "body") return "move";
      return (found[0] === 0) === (found[1] === 1) ? "nwse-resize" : "nesw-resize";
    },
    settle() { if (!grip && !made.waiting) draft = null; },
    place(id, box) {
      draft = null;
      made.attempt({ changes: withEdit(made.intervention.changes, id, state(), { box }) });
    },
  };

  explorer.editable = editable;
  explorer.draft = (trace, row) => (
    draft && trace === explorer.trace() && trace.ids[row] === draft.id && state() === draft.state ? draft.box : null
  );

  // Once something was changed: where things were without the change (dashed), and where the chosen
  // proposal goes from here.
  explorer.ghosts = (g, trace, toScreen) => {
    const edited = explorer.edited();
    if (!edited || trace !== edited) return;
    const base = explorer.base();
    const { position, chosen, threshold, compare } = store.state;
    const light = parse(explorer.style.light);
    const ids = new Set([...explorer.ends(base, threshold)].map((row) => base.ids[row]));
    if (chosen !== null) ids.add(chosen);
    for (const id of compare === "both" ? [] : ids) {
      const row = base.row(id);
      if (row < 0 || position > base.stages) continue;
      const was = toScreen(base.boxAt(position, row));
      const now = toScreen(trace.row(id) < 0 ? null : trace.boxAt(position, trace.row(id)));
      if (was && (!now || was.some((value, i) => Math.abs(value - now[i]) > 4))) strokeBox(g, was, light, 1.5, 0.9, [5, 4]);
    }
    const row = chosen === null ? -1 : trace.row(chosen);
    if (row < 0 || !still()) return;
    const boxes = [];
    for (let next = state(); next <= trace.stages; next++) boxes.push(toScreen(trace.box(next, row)));
    if (boxes.length < 2 || boxes.some((box) => !box)) return;
    const accent = parse(explorer.style.accent);
    strokeLine(g, boxes.map((box) => [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2]), accent, 1, 0.7);
    strokeBox(g, boxes.at(-1), accent, 1.5, 0.8, [2, 3]);
  };

  return dragging;
}
