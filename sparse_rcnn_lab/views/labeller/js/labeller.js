// The labeller: an image to draw on, the classes, all images as a strip. In a notebook and in the app.

import { textOn, parse } from "./colors.js";
import { make, setText } from "./dom.js";
import { createFrames } from "./frames.js";
import { createSheet } from "./sheet.js";
import { watchTheme } from "./theme.js";

const HELP = [
  ["drag", "draw a box"], ["click", "choose a box, accept a proposal"], ["1 to 9", "class of the box that you chose, and of the next ones"],
  ["N", "new class"], ["A", "accept all proposals"], ["Tab", "next box or proposal"], ["Enter", "accept it; then again: choose its box"],
  ["arrows", "move the chosen box (with Shift: ten pixels, with Alt: its corner), else another image"],
  ["Page Down, Page Up", "the next image, the one before"], ["Delete", "remove it"], ["B", "a new box in the middle"], ["0", "nothing is here"], ["Ctrl Z, Ctrl Y", "undo, redo"],
];

const SAME = 0.4; // IoU with a box from which on a proposal is on what is labelled already
const INSIDE = 0.7; // the share of it in a box of its own class, or of that box in it, that says so too

// host: {frames, classes, colors: ["#rrggbb"], theme, tallest (share of the window), save(frame), propose(frame), rename(names, renamed), remove(frame)}.
// propose gives [{name, box, score}]; rename and remove may be missing.
export function createLabeller(el, host) {
  const frames = createFrames(host.frames, host.classes, host.save);
  const { state } = frames;
  const color = (name) => {
    const place = state.classes.indexOf(name);
    return place < 0 ? "#ffffff" : host.colors[place % host.colors.length];
  };
  let asked = 0; // which answer about proposals is the last one asked for
  let offers = []; // what was proposed for this image; state.proposals are those that no box has taken
  let pending = null; // a box that waits for its name

  function accept(row, all = false) {
    const frame = frames.current();
    const taken = all ? state.proposals : [state.proposals[row]].filter(Boolean);
    const usable = taken.filter((one) => one.name || state.name);
    if (!usable.length) return taken.length ? ask(taken[0].box) : undefined;
    const added = usable.map(({ name, box }) => ({ name: frames.addClass(name || state.name), box: box.map((value) => Math.round(value * 10) / 10) }));
    state.offered = -1;
    frames.change([...frame.boxes, ...added], frame.boxes.length + added.length - 1);
  }

  function drawn(box) {
    if (!state.name) return ask(box);
    const frame = frames.current();
    frames.change([...frame.boxes, { name: state.name, box }], frame.boxes.length);
  }

  const sheet = createSheet(frames, { color, accept, drawn, tallest: host.tallest });
  const chips = make("div", { class: "srl-classes", role: "group", "aria-label": "Classes" });
  const field = make("input", { class: "srl-name", type: "text", maxlength: "60", placeholder: matchMedia("(hover: none)").matches ? "name it" : "name it, then Enter", enterkeyhint: "done", "aria-label": "Name of the class", hidden: "" });
  const button = (text, title, onclick) => make("button", { type: "button", text, title, onclick });
  const undo = button("Undo", "Ctrl Z", () => frames.undo());
  const redo = button("Redo", "Ctrl Y", () => frames.redo());
  const gone = button("Delete box", "Delete", remove);
  const every = button("Accept all", "A", () => accept(0, true));
  const nothing = button("Nothing here", "0", empty);
  const next = button("Next image", "Page Down", () => {
    frames.go(state.at + 1);
    sheet.element.focus({ preventScroll: true });
  });
  const drop = host.remove ? button("Remove image", "Remove this image and its boxes", dropFrame) : null;
  const strip = make("div", { class: "srl-strip-of-images", role: "group", "aria-label": "Images" });
  const where = make("p", { class: "srl-labelled", role: "status" });
  const keys = make("details", { class: "srl-keys" }, make("summary", { text: "Keys" }),
    make("dl", {}, ...HELP.flatMap(([key, what]) => [make("dt", { text: key }), make("dd", { text: what })])));
  const root = make("div", { class: "srl srl-labeller", tabindex: "-1" },
    make("div", { class: "srl-bar" }, chips, field), make("div", { class: "srl-sheet-place" }, sheet.element),
    make("div", { class: "srl-bar srl-acts" }, every, nothing, next, gone, undo, redo, drop), where, strip, keys);
  el.append(root);

  // Whether a box says what a proposal would. One in another may be another thing, as a wheel in a
  // car, unless both are of one class.
  function covers(own, one) {
    const [a, b] = [own.box, one.box];
    const w = Math.min(a[2], b[2]) - Math.max(a[0], b[0]), h = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
    if (w <= 0 || h <= 0) return false;
    const [large, small] = [a, b].map((box) => (box[2] - box[0]) * (box[3] - box[1])).sort((x, y) => y - x);
    return w * h >= SAME * (large + small - w * h) || (own.name === one.name && w * h >= INSIDE * small);
  }
  function free() {
    const { boxes } = frames.current() ?? { boxes: [] };
    state.proposals = offers.filter((one) => !boxes.some((own) => covers(own, one)));
    if (state.chosen >= 0 || state.offered >= state.proposals.length) state.offered = -1;
  }

  function ask(box = null, text = "") {
    pending = box;
    field.hidden = false;
    field.value = text;
    field.dataset.renames = text;
    field.focus();
    field.select();
    if (box) where.textContent = "What is in this box? Give its class a name.";
  }

  function answered(keep) {
    const box = pending, before = field.dataset.renames;
    pending = null;
    field.hidden = true;
    const name = keep ? field.value : "";
    if (name.trim()) {
      if (before) renameClass(before, name);
      else {
        state.name = frames.addClass(name);
        if (box) drawn(box);
        else if (state.chosen >= 0) frames.call(state.name);
        else frames.tell();
        tellClasses({});
      }
    } else frames.tell();
    sheet.element.focus({ preventScroll: true });
  }

  function tellClasses(renamed) {
    host.rename?.(state.classes, renamed)?.catch((error) => { where.textContent = error.message; });
  }

  function renameClass(before, after) {
    const name = frames.renameClass(before, after);
    if (name === null) {
      where.textContent = `There is a class "${after.trim()}" already.`;
      return;
    }
    if (name === before) return;
    for (const one of offers) if (one.name === before) one.name = name;
    tellClasses({ [before]: name });
    frames.tell();
  }

  field.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.isComposing || event.keyCode === 229) return; // Enter ends a word of Japanese, say
    if (event.key === "Enter") answered(true);
    else if (event.key === "Escape") answered(false);
  });
  field.addEventListener("blur", () => { if (!field.hidden) answered(true); });

  function remove() {
    const frame = frames.current();
    if (!frame || state.chosen < 0) return;
    const left = frame.boxes.filter((_, row) => row !== state.chosen);
    offers = offers.filter((one) => !covers(frame.boxes[state.chosen], one)); // nor is that wanted
    frames.change(left, Math.min(state.chosen, left.length - 1), true);
  }

  function empty() {
    offers = [];
    frames.change([], -1, true);
  }

  async function dropFrame() {
    const frame = frames.current();
    if (!frame || (frame.boxes.length && !confirm("Remove this image and its boxes?"))) return;
    try {
      await host.remove(frame);
    } catch (error) {
      where.textContent = error.message;
      return;
    }
    frames.drop(frame);
  }

  async function propose() {
    const frame = frames.current();
    const number = ++asked;
    offers = [];
    state.offered = -1;
    if (!frame || !host.propose || (frame.labelled && frame.boxes.length)) return;
    try {
      const found = await host.propose(frame);
      if (number !== asked || frames.current() !== frame) return;
      offers = found;
      frames.tell("proposals");
    } catch { /* a page without proposals is one all the same */ }
  }

  // The keys.
  function walk(step) {
    const { boxes } = frames.current();
    const total = boxes.length + state.proposals.length;
    if (!total) return false;
    const now = state.offered >= 0 ? boxes.length + state.offered : state.chosen;
    const next = now < 0 ? (step > 0 ? 0 : total - 1) : now + step;
    if (next < 0 || next >= total) {
      state.offered = -1;
      frames.choose(-1);
      return false; // the focus goes on
    }
    state.offered = next >= boxes.length ? next - boxes.length : -1;
    frames.choose(state.offered >= 0 ? -1 : next);
    sheet.element.title = state.offered >= 0 ? `proposal: ${state.proposals[state.offered].name || "object"}, Enter accepts` : "";
    return true;
  }

  function nudge(dx, dy, corner) {
    const frame = frames.current();
    const { name, box } = frame.boxes[state.chosen];
    // At the edge of the image a box stops and keeps its size.
    const far = (step, i, most) => Math.max(corner ? box[i] + 3 - box[i + 2] : -box[i], Math.min(step, most - box[i + 2]));
    const by = [far(dx, 0, frame.width), far(dy, 1, frame.height)];
    if (!by[0] && !by[1]) return;
    const kept = box.map((value, i) => (corner && i < 2 ? value : value + by[i % 2]));
    frames.change(frame.boxes.map((one, row) => (row === state.chosen ? { name, box: kept } : one)), state.chosen);
  }

  const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  function pressed(event) {
    const frame = frames.current();
    if (event.target === field || !frame) return false;
    const control = event.ctrlKey || event.metaKey;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (control && key === "z") return event.shiftKey ? frames.redo() : frames.undo(), true;
    if (control && key === "y") return frames.redo(), true;
    if (control) return false;
    if (MOVES[key]) {
      const [x, y] = MOVES[key];
      const far = event.shiftKey ? 10 : 1;
      if (state.chosen >= 0) nudge(x * far, y * far, event.altKey);
      else if (x) frames.go(state.at + x);
      else return false;
      return true;
    }
    if (event.target.matches("button, summary, input") && (key === "Enter" || key === " " || key === "Tab")) return false;
    if (key === "Tab") return walk(event.shiftKey ? -1 : 1);
    if (key === "Enter" && state.offered >= 0) return accept(state.offered), true;
    if (key === "Enter") return state.chosen >= 0 && (frames.choose(state.chosen), true);
    if (key === "Delete" || key === "Backspace") return remove(), true;
    if (key === "Escape") return sheet.cancel() || (state.offered = -1, frames.choose(-1)), true;
    if (key === "a") return accept(0, true), true;
    if (key === "n") return ask(), true;
    if (key === "b") return drawn([0.35 * frame.width, 0.35 * frame.height, 0.65 * frame.width, 0.65 * frame.height].map(Math.round)), true;
    if (key === "0") return empty(), true;
    if (key >= "1" && key <= "9" && state.classes[key - 1]) return frames.call(state.classes[key - 1]), true;
    if (key === "PageUp" || key === "PageDown") return frames.go(state.at + (key === "PageUp" ? -1 : 1)), true;
    return false;
  }
  root.addEventListener("keydown", (event) => {
    if (!pressed(event)) return;
    event.preventDefault();
    event.stopPropagation();
  });

  // The parts beside the image.
  function showClasses() {
    const counts = new Map();
    for (const frame of state.frames) for (const { name } of frame.boxes) counts.set(name, (counts.get(name) ?? 0) + 1);
    chips.replaceChildren(...state.classes.map((name, place) => make("button", {
      type: "button", class: "srl-class-chip", "aria-pressed": String(name === state.name),
      title: `${place < 9 ? `Key ${place + 1}. ` : ""}Double-click to rename`,
      style: { background: color(name), color: textOn(parse(color(name))) },
      onclick: () => { frames.call(name); sheet.element.focus({ preventScroll: true }); }, ondblclick: () => ask(null, name),
    }, make("span", { text: name }), make("small", { text: String(counts.get(name) ?? 0) }))),
    make("button", { type: "button", class: "srl-class-new", text: state.classes.length ? "+" : "+ class", title: "New class (N)", onclick: () => ask() }));
  }

  const thumbs = new Map();
  function showStrip() {
    const known = new Set(state.frames.map((frame) => frame.id));
    for (const [id, thumb] of thumbs) if (!known.has(id)) { thumb.remove(); thumbs.delete(id); }
    state.frames.forEach((frame, place) => {
      if (!thumbs.has(frame.id)) {
        thumbs.set(frame.id, make("button", { type: "button", onclick: () => frames.go(state.frames.indexOf(frame)) },
          make("img", { src: frame.url, alt: "", loading: "lazy" }), make("b")));
      }
      const thumb = thumbs.get(frame.id);
      if (strip.children[place] !== thumb) strip.insertBefore(thumb, strip.children[place] ?? null);
      thumb.setAttribute("aria-current", String(place === state.at));
      thumb.setAttribute("aria-label", `Image ${place + 1}, ${frame.labelled ? `${frame.boxes.length} boxes` : "not labelled"}`);
      thumb.classList.toggle("srl-unlabelled", !frame.labelled);
      setText(thumb.lastChild, frame.labelled ? String(frame.boxes.length) : "–");
    });
    const now = thumbs.get(frames.current()?.id);
    if (now) strip.scrollLeft = Math.max(0, now.offsetLeft - strip.clientWidth / 2);
  }

  function showState() {
    const frame = frames.current();
    const { length } = state.frames;
    const done = state.frames.filter((one) => one.labelled).length;
    const boxes = state.frames.reduce((sum, one) => sum + one.boxes.length, 0);
    const saved = state.problem ? (state.unsaved ? `Not saved yet: ${state.problem} It will be tried again.` : `Not saved: ${state.problem}`) : state.unsaved ? "Saving …" : "All saved.";
    if (!pending) setText(where, (!state.problem && state.hint) || (length ? `${done} of ${length} images labelled, ${boxes} ${boxes === 1 ? "box" : "boxes"}. ${saved}` : "No image yet."));
    root.dataset.saved = String(!state.unsaved && !state.problem);
    gone.disabled = state.chosen < 0;
    undo.disabled = !frames.canUndo();
    redo.disabled = !frames.canRedo();
    every.disabled = !state.proposals.length;
    setText(every, state.proposals.length > 1 ? `Accept all ${state.proposals.length}` : "Accept");
    nothing.disabled = !frame || (frame.labelled && !frame.boxes.length);
    next.disabled = state.at >= length - 1;
    if (drop) drop.disabled = !frame;
  }

  frames.listen((what) => {
    if (what === "saved") return showState();
    if (what === "frame") propose();
    free();
    if (what === "frame") sheet.show();
    else sheet.draw();
    showClasses();
    showStrip();
    showState();
  });

  const observer = new ResizeObserver(() => sheet.resize());
  observer.observe(root);
  const unwatch = watchTheme(root, host.theme ?? "auto", () => sheet.draw());
  frames.tell("frame");
  sheet.show();

  return {
    state, frames, propose, root,
    // A frame that was taken just now.
    add(frame, show = true) {
      state.frames.push(frame);
      if (show && state.frames.length > 1) frames.go(state.frames.length - 1);
      else frames.tell(state.frames.length === 1 ? "frame" : "boxes");
    },
    focus: () => sheet.element.focus({ preventScroll: true }),
    destroy() {
      observer.disconnect();
      unwatch();
      root.remove();
    },
  };
}
