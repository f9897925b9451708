// The controls under the image: the stages, and what is shown how.

import { css, textOn } from "./colors.js";
import { usedOf, withFirst } from "./changes.js";
import { scoreText } from "./data.js";
import { make, segments, setText } from "./dom.js";

const SHOW_HELP = {
  all: "Every proposal",
  detections: "The proposals that end as detections",
  one: "Only the chosen proposal",
};
const MOST_NAMES = 10; // classes in the legend
const COLORS = [["class", "class"], ["score", "score"], ["match", "match"], ["proposal", "proposal"], ["stage", "stage"]];

export function createTransport(explorer) {
  const { store, motion, colors } = explorer;
  const button = (text, label, title, action) => make("button", {
    type: "button", class: "srl-key", text, "aria-label": label, title, onclick: action,
  });
  const play = button("▶", "Play", "Play the stages (space)", () => motion.toggle());
  const range = make("input", {
    type: "range", min: "0", step: "0.01", class: "srl-range", "aria-label": "Stage",
    title: "Drag through the stages (← →)",
  });
  const ticks = make("div", { class: "srl-ticks" });
  const element = make("div", { class: "srl-transport" },
    button("◀", "Previous stage", "Previous stage (←)", () => motion.go(store.state.stage - 1)),
    play,
    button("▶|", "Next stage", "Next stage (→)", () => motion.go(store.state.stage + 1)),
    make("div", { class: "srl-track" }, range, ticks));
  range.addEventListener("input", () => motion.jump(Number(range.value)));
  range.addEventListener("change", () => motion.go(Math.round(store.state.position)));
  let count = -1;
  let told = "";

  function build(last) {
    count = last;
    told = "";
    range.max = String(last);
    ticks.replaceChildren(...Array.from({ length: last + 1 }, (_, state) => {
      const color = colors.stage(state);
      return make("button", {
        type: "button", class: "srl-state", text: String(state), tabindex: "-1",
        title: state ? `Stage ${state}` : "The learned proposals",
        style: { background: css(color), color: textOn(color) }, onclick: () => motion.go(state),
      });
    }));
  }

  return {
    element,
    update() {
      const last = explorer.trace().stages;
      if (count !== last) build(last);
      const { position, playing, stage } = store.state;
      range.value = String(position);
      if (told === `${stage} ${playing}`) return; // the rest changes seldom, and this runs every frame
      told = `${stage} ${playing}`;
      range.setAttribute("aria-valuetext", stage ? `stage ${stage} of ${last}` : "learned proposals");
      setText(play, playing ? "❚❚" : "▶");
      play.setAttribute("aria-label", playing ? "Pause" : "Play");
      [...ticks.children].forEach((tick, own) => tick.setAttribute("aria-current", String(own === stage)));
    },
  };
}

export function createControls(explorer) {
  const { store } = explorer;
  const show = segments("Show", [["all", "all"], ["detections", "detections"], ["one", "one"]], SHOW_HELP,
    (value) => explorer.show(value));
  const color = make("select", { "aria-label": "Colour", title: "What the colour of a box shows", onchange: () => store.set({ color: color.value }) },
    ...COLORS.map(([value, text]) => make("option", { value, text })));
  const value = make("output", { class: "srl-value" });
  const threshold = make("input", {
    type: "range", min: "0.01", max: "0.99", step: "0.01", "aria-label": "Score threshold",
    title: "Lowest score of a detection", oninput: () => store.set({ threshold: Number(threshold.value) }),
  });
  // Fewer proposals are a change like any other, tried while the slider moves.
  const used = make("output", { class: "srl-value" });
  let before = null;
  const use = (number, keep) => {
    const { changes } = explorer;
    before ??= changes.intervention;
    changes.attempt({ changes: withFirst(changes.intervention.changes, explorer.base().ids, number) }, keep, before);
    if (keep) before = null;
  };
  explorer.useFirst = (number) => use(number, true);
  explorer.used = () => usedOf(explorer.changes.intervention.changes, explorer.base().ids);
  const first = make("input", {
    type: "range", min: "1", max: String(explorer.base().count), step: "1", "aria-label": "Proposals",
    title: "How many of the learned proposals are used, counted from the first", oninput: () => use(Number(first.value), false), onchange: () => use(Number(first.value), true),
    onpointerdown: () => { before = null; }, // a slider that returns to its start reports no change
  });
  const fewer = make("label", { class: "srl-field srl-threshold" }, make("span", { text: "proposals" }), first, used);
  const check = (name, text, title) => {
    const box = make("input", { type: "checkbox", onchange: () => store.set({ [name]: box.checked }) });
    return { box, label: make("label", { class: "srl-check", title }, box, make("span", { text })) };
  };
  const trails = check("trails", "trails", "The path of each box");
  const truth = check("truth", "ground truth", "The objects that were annotated: white, dashed");
  const legend = make("div", { class: "srl-legend", "aria-label": "Legend" });
  const element = make("div", { class: "srl-controls" }, fewer,
    make("span", { class: "srl-field" }, make("span", { text: "show" }), show.element),
    make("label", { class: "srl-field" }, make("span", { text: "colour" }), color),
    make("label", { class: "srl-field srl-threshold" }, make("span", { text: "score ≥" }), threshold, value),
    trails.label, truth.label, legend);
  let built = null;

  function buildLegend(trace) {
    const { color: kind, threshold: least } = store.state;
    const labels = [...new Set(trace.detections(trace.stages, least).map(({ label }) => label))].sort((a, b) => a - b);
    const key = [kind, ...labels].join();
    if (key === built && legend.trace === trace) return;
    built = key;
    legend.trace = trace;
    const entries = explorer.colors.legend(kind, trace, labels.slice(0, MOST_NAMES));
    legend.replaceChildren(...entries.map(([own, text]) => make("span", {},
      make("i", { class: "srl-dot", style: { background: css(own) } }), make("span", { text }))));
    const more = kind === "class" ? labels.length - MOST_NAMES : 0;
    if (more > 0) legend.append(make("span", { text: `and ${more} more` }));
    if (kind === "match" && !trace.matches) legend.replaceChildren(make("span", { text: trace.missing.matches ?? "" }));
  }

  return {
    element,
    update() {
      const trace = explorer.trace();
      show.mark(store.state.show);
      color.value = store.state.color;
      threshold.value = String(store.state.threshold);
      setText(value, scoreText(store.state.threshold));
      fewer.hidden = !explorer.link || explorer.base().count < 2;
      first.value = String(explorer.used());
      setText(used, first.value);
      trails.box.checked = store.state.trails;
      truth.box.checked = store.state.truth;
      truth.label.hidden = !trace.truth.length;
      buildLegend(trace);
    },
  };
}
