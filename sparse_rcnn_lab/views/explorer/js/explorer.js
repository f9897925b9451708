// The explorer: every proposal's box and feature through the stages of Sparse R-CNN.
//
// anywidget calls `render({model, el})`, which returns a function that removes everything again.
// Without a kernel `model` is a small stand-in with only `get` (a saved page, see html_page.py), or
// also a `link` of its own (the app, see link.js). Nothing here makes a network request. A page that
// holds nothing else gives `keys: document`.
//
// For tests and the curious: `el.explorer` holds `state` (what is shown, see store.js), `trace`
// (the lookups of data.js), `choose(id)`, `motion`, `labels` (those drawn last) and `frames`.

import { createColors, ramp } from "./colors.js";
import { createControls, createTransport } from "./controls.js";
import { TraceData } from "./data.js";
import { make } from "./dom.js";
import { createEditing } from "./editing.js";
import { listenToKeys } from "./keyboard.js";
import { linkOf, serverLink } from "./link.js";
import { createMotion } from "./motion.js";
import { createPicture } from "./picture.js";
import { listenToPointer } from "./pointer.js";
import { createProposal } from "./proposal.js";
import { createScatter } from "./scatter.js";
import { createStatus } from "./status.js";
import { START, createStore } from "./store.js";
import { createTabs } from "./tabs.js";
import { watchTheme } from "./theme.js";
import { createTour } from "./tour.js";

const NARROW = 820; // CSS pixels of room under which everything stands in one column
const WIDE = 1180; // and from which on in three
const UNDER = 240; // pixels of what belongs over and under an image: with it, it fits the window
const CARD = 190; // and of the card to change something, which comes below in two columns
const ABOVE = 110; // pixels of what is above the explorer
const SHORTEST = 260; // an image keeps this height whatever the window has
const FLIGHT = 1.35; // the first flight is slower than playing by this factor
const HEAT = [[20, 11, 52], [98, 24, 110], [178, 50, 90], [236, 105, 37], [252, 190, 60], [252, 255, 200]];
const SYNCED = ["stage", "chosen", "threshold", "show", "color", "tab"];

function render({ model, el, keys }) {
  const options = model.get("options") ?? {};
  const base = new TraceData(model.get("payload"));
  let edited = null;
  const style = base.style;
  const store = createStore(startState(model, options, base));
  const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
  const colors = createColors(style);
  const endings = new WeakMap();
  const root = make("div", { class: "srl", "data-lm-suppress-shortcuts": "true" });
  root.style.setProperty("--srl-mark", style.accent);
  let picture = null; // the loaded image, or null
  let tones = {};
  let frame = 0;
  let stale = { dom: true, layout: true };
  let given = []; // the `space` that was laid out for

  const explorer = {
    store, colors, style, model, root, options,
    link: linkOf(model),
    get state() { return { ...store.state }; },
    base: () => base,
    edited: () => edited,
    trace: () => (edited && store.state.compare !== "before" ? edited : base),
    image: () => picture,
    theme: () => root.dataset.theme,
    sheet: () => tones.sheet || "#888888",
    ink: () => tones.ink || "#888888",
    heat: (value) => ramp(HEAT, value),
    frames: 0,
    choose(id) { store.set({ chosen: id, ...(id === null && store.state.show === "one" ? { show: "all" } : {}) }); },
    show(value) {
      const best = () => explorer.trace().ids[explorer.ends(explorer.trace(), 0).values().next().value ?? 0];
      store.set({ show: value, ...(value === "one" && store.state.chosen === null ? { chosen: best() } : {}) });
    },
    // The row that cards and lines show: the chosen one, else the one under the pointer; or -1.
    subject() {
      const { chosen, peeked } = store.state;
      const id = chosen ?? peeked;
      return id === null ? -1 : explorer.trace().row(id);
    },
    // The rows that end as detections, best first.
    ends(trace, threshold) {
      const known = endings.get(trace);
      if (known?.threshold === threshold) return known.rows;
      const rows = new Set(trace.detections(trace.stages, threshold).map(({ row }) => row));
      endings.set(trace, { threshold, rows });
      return rows;
    },
    refresh: (layout = false) => schedule(true, layout),
    drawNow: () => flush(),
    useEdited(payload) {
      edited = payload ? new TraceData(payload) : null;
      if (!edited) store.set({ compare: "after" });
      if (store.state.position > explorer.trace().stages) motion.jump(explorer.trace().stages);
      schedule(true, true);
    },
  };

  // Runs something in the next animation frame and draws in that same frame.
  const inFrame = (callback) => requestAnimationFrame((now) => {
    callback(now);
    flush();
  });
  const motion = createMotion(store, () => explorer.trace().stages, calm, inFrame);
  explorer.motion = motion;

  const now = createPicture(explorer);
  const before = createPicture(explorer);
  const captions = [make("figcaption", { text: "before" }), make("figcaption", { text: "after" })];
  const figures = [before, now].map((one, i) => make("figure", { class: "srl-figure" }, captions[i], one.canvas));
  const pictures = make("div", { class: "srl-pictures" }, ...figures);
  const status = createStatus(explorer);
  const proposal = createProposal(explorer);
  const scatter = createScatter(explorer);
  const tabs = createTabs(explorer);
  const transport = createTransport(explorer);
  const controls = createControls(explorer);
  const editing = createEditing(explorer);
  const main = make("div", { class: "srl-main" },
    status.element, status.notice, pictures, transport.element, controls.element);
  const about = make("div", { class: "srl-about" }, proposal.element, tabs.element);
  const change = make("div", { class: "srl-change" }, editing.element);
  const tour = createTour(explorer);
  explorer.tour = tour;
  root.append(main, about, change, tour.element, status.live);

  const space = () => [root.clientWidth, globalThis.innerHeight, globalThis.devicePixelRatio];

  function layout() {
    const width = root.clientWidth || el.clientWidth || 640;
    const [narrow, wide] = [width < NARROW, width >= WIDE];
    root.classList.toggle("srl-narrow", narrow);
    root.classList.toggle("srl-wide", wide);
    const last = narrow || wide ? change : about;
    if (scatter.element.parentElement !== last) last.append(scatter.element);
    const both = Boolean(edited) && store.state.compare === "both";
    figures[0].hidden = !both;
    captions.forEach((caption) => { caption.hidden = !both; });
    pictures.classList.toggle("srl-both", both);
    const tall = globalThis.innerHeight || 800;
    const below = UNDER + (wide || !explorer.link ? 0 : CARD) + (options.above ?? ABOVE);
    const tallest = narrow ? 0.55 * tall : tall - below;
    const shown = pictures.clientWidth || width;
    const room = both && !narrow ? (shown - 10) / 2 : shown;
    for (const one of [now, before]) one.layout(room, Math.max(SHORTEST, tallest));
    given = space();
  }

  // The plane of features takes the rest of its column.
  function fill() {
    const has = (name) => root.classList.contains(name);
    const spare = has("srl-wide") ? Math.max(main.clientHeight, about.clientHeight) - change.clientHeight
      : main.clientHeight + change.clientHeight - about.clientHeight;
    scatter.layout(scatter.element.clientWidth - 26, has("srl-narrow") ? 0 : spare);
  }

  // Only the heights of what stands here changed: nothing but the plane follows.
  function resize() {
    if (stale.layout || space().some((value, i) => value !== given[i])) return schedule(true, true);
    fill();
    scatter.draw();
  }

  // Canvases cannot read the style sheet, and outside the document it does not apply yet.
  function readTones() {
    const computed = getComputedStyle(root);
    tones = {
      sheet: computed.getPropertyValue("--srl-sheet").trim(),
      ink: computed.getPropertyValue("--srl-ink").trim(),
    };
  }

  function flush() {
    if (!frame && !stale.now) return;
    cancelAnimationFrame(frame);
    frame = 0;
    if (!tones.sheet) readTones();
    now.use(explorer.trace());
    before.use(base);
    if (stale.dom) update();
    if (stale.layout) layout();
    now.draw();
    if (edited && store.state.compare === "both") before.draw();
    if (stale.layout) fill();
    scatter.draw();
    transport.update();
    stale = { dom: false, layout: false };
    explorer.frames += 1;
  }

  function schedule(dom, relayout) {
    stale.dom ||= dom;
    stale.layout ||= relayout;
    stale.now = true;
    frame ||= requestAnimationFrame(() => flush());
  }

  // A focused control that is removed would lose the focus, and the next key would go elsewhere.
  function update() {
    const focused = root.getRootNode().activeElement;
    const own = root.contains(focused);
    status.update();
    proposal.update();
    tabs.update();
    controls.update();
    editing.update();
    const state = Math.round(store.state.position);
    now.canvas.setAttribute("aria-label", `Image with the boxes of ${state ? `stage ${state}` : "the learned proposals"}. `
      + "Left and right: stage. Up and down: proposal. Space: play. Escape: deselect.");
    if (own && (!focused.isConnected || focused.disabled || focused.closest("[hidden]"))) now.canvas.focus({ preventScroll: true });
  }

  // Words follow when a state is nearest and when it is reached, not at every frame between.
  let told = "";
  store.listen((changed) => {
    const { position } = store.state;
    if (position > explorer.trace().stages) motion.jump(explorer.trace().stages);
    const moving = [...changed].every((key) => key === "position" || key === "hovered");
    const place = `${Math.round(position)} ${Number.isInteger(position)}`;
    schedule(!moving || place !== told, changed.has("compare"));
    told = place;
    const shared = SYNCED.filter((key) => changed.has(key));
    if (shared.length && model.set) {
      shared.forEach((key) => model.set(key, store.state[key]));
      model.save_changes();
    }
  });

  // A kernel may move things too: widget.stage = 3, widget.chosen = 17.
  const heard = SYNCED.map((key) => {
    const hear = () => {
      const value = model.get(key);
      if (value === undefined || value === store.state[key]) return;
      if (key === "stage") motion.go(value);
      else store.set({ [key]: value });
    };
    model.on?.(`change:${key}`, hear);
    return () => model.off?.(`change:${key}`, hear);
  });

  function loadImage() {
    picture = null;
    if (!base.payload.image) return;
    const image = new Image();
    image.onload = () => {
      picture = image;
      schedule(true, true);
    };
    image.src = base.payload.image;
  }

  listenToPointer(explorer, now);
  listenToPointer(explorer, before);
  const unlisten = listenToKeys(explorer, keys ?? root);
  el.append(root);
  el.explorer = explorer;
  Object.defineProperty(explorer, "labels", { get: () => now.labels });
  explorer.picture = now;
  explorer.scatter = scatter;
  const unwatch = watchTheme(root, options.theme ?? "auto", () => {
    tones = {};
    schedule(true, false);
  });
  const resized = new ResizeObserver(resize);
  resized.observe(el);
  // On a phone the height changes with the browser's own bars, while one scrolls.
  const seen = () => { if (!root.classList.contains("srl-narrow")) resize(); };
  addEventListener("resize", seen);
  loadImage();
  if (model.get("edited")) explorer.useEdited(model.get("edited"));
  const first = model.get("stage") ?? options.stage ?? explorer.trace().stages;
  const still = options.fly === false || calm() || first !== explorer.trace().stages;
  const stopFlight = still ? null : flyWhenSeen(root, motion);
  if (still) motion.jump(first);
  schedule(true, true);

  return () => {
    tour.stop();
    motion.halt();
    stopFlight?.();
    cancelAnimationFrame(frame);
    status.close();
    unwatch();
    unlisten();
    resized.disconnect();
    removeEventListener("resize", seen);
    heard.forEach((forget) => forget());
    editing.close();
    root.remove();
  };
}

// A kernel, or another view of it, may have set something before this view is shown; null means that
// nothing is chosen.
function startState(model, options, base) {
  const first = (key) => [model.get(key), options[key], START[key]].find((value) => value !== undefined);
  const given = Object.fromEntries(Object.keys(START).map((key) => [key, first(key)]));
  return { ...given, position: 0, stage: 0, chosen: base.row(given.chosen) >= 0 ? given.chosen : null };
}

// At first the learned proposals fly to the objects once.
function flyWhenSeen(root, motion) {
  const observer = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    motion.play(FLIGHT);
  });
  observer.observe(root);
  return () => observer.disconnect();
}

export default { render, serverLink };
