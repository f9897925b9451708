// Four looks at the chosen proposal: whom it attends to, what it pooled, what its filters made of
// that, and whose feature is like its own.

import { amongMatrix, cosineText } from "./among.js";
import { css, textOn } from "./colors.js";
import { drawCrop, filmStrips } from "./crops.js";
import { scoreText } from "./data.js";
import { make, setText, sharp } from "./dom.js";
import { drawGrid } from "./marks.js";

const TABS = [["attention", "attention"], ["roi", "RoI"], ["filters", "filters"], ["similarity", "similarity"]];
const SIDE = 96; // pixels of a crop
const CELL_LEAST = 22; // pixels of a cosine in the table

export function createTabs(explorer) {
  const { store, colors } = explorer;
  const panel = make("div", { class: "srl-panel", role: "tabpanel", tabindex: "0" });
  const buttons = TABS.map(([name, words]) => make("button", {
    type: "button", role: "tab", text: words, onclick: () => store.set({ tab: name }),
  }));
  const bar = make("div", { class: "srl-tabs", role: "tablist", "aria-label": "Views of the proposal" }, ...buttons);
  bar.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    const next = (TABS.findIndex(([name]) => name === store.state.tab) + step + TABS.length) % TABS.length;
    store.set({ tab: TABS[next][0] });
    buttons[next].focus();
  });
  const element = make("section", { class: "srl-card srl-tabcard", "aria-label": "Views of the proposal" }, bar, panel);
  let built = null;

  const note = (text) => make("p", { class: "srl-note", text });

  // mark: a share of the bar's length where a line stands.
  function partner(trace, row, value, words, mark = 2) {
    const id = trace.ids[row];
    return make("button", {
      type: "button", class: "srl-item",
      onclick: () => explorer.choose(id),
      onpointerenter: () => store.set({ hovered: id }),
      onpointerleave: () => store.set({ hovered: null }),
    }, make("span", { class: "srl-meter" }, make("i", { style: { width: `${Math.max(0, value) * 100}%` } }),
      mark <= 1 ? make("u", { style: { left: `${mark * 100}%` } }) : null),
    make("span", { text: words }), make("small", { text: `proposal ${id}` }));
  }

  function attention(trace, row, state) {
    if (!trace.hasAttention) return [note(trace.missing.attention)];
    if (state < 1) return [note("The learned proposals have not exchanged anything yet. Go to stage 1.")];
    const found = trace.attention(state, row);
    if (!found.length) return [note(`Self-attention was switched off in stage ${state}.`)];
    const even = 1 / trace.count;
    const most = Math.max(found[0].weight, even);
    return [
      note(`What proposal ${trace.ids[row]} attends to in stage ${state}, mean of ${trace.heads} heads. The line: an even share, ${scoreText(even)}.`),
      make("div", { class: "srl-list" }, ...found.map(({ row: other, weight }) => partner(
        trace, other, weight / most,
        `${scoreText(weight)} ${other === row ? "itself" : trace.words(state, other)}`, even / most,
      ))),
    ];
  }

  function roi(trace, row, state) {
    const crops = [];
    for (let stage = 1; stage <= trace.stages; stage++) {
      const box = trace.box(stage - 1, row);
      const canvas = make("canvas", { role: "img", "aria-label": `What stage ${stage} pooled from` });
      if (box) roiCrop(canvas, box, trace.roiSide, trace.map("before", stage, row));
      crops.push(make("div", { class: "srl-look", "aria-current": String(stage === state) },
        canvas, make("span", { text: `p${trace.level(stage, row)}` }), stageButton(stage)));
    }
    const box = state > 0 ? trace.box(state - 1, row) : null;
    const bin = box && [box[2] - box[0], box[3] - box[1]].map((side) => Math.abs(side / trace.roiSide).toFixed(1)).join("×");
    const said = state < 1 ? "Nothing is pooled before stage 1."
      : box ? `Stage ${state} pools ${trace.roiSide}×${trace.roiSide} bins from p${trace.level(state, row)}, where the box was when it came in. One bin: ${bin} px.`
        : `The box that came into stage ${state} is not a number (NaN).`;
    return [
      note(said), make("div", { class: "srl-looks" }, ...crops),
      note(trace.roiBefore ? "Bright bins stand out from the mean of the RoI feature." : `The feature itself is not shown. ${trace.missing.roi ?? ""}`),
    ];
  }

  function stageButton(stage) {
    const color = colors.stage(stage);
    return make("button", {
      type: "button", class: "srl-state", text: String(stage), title: `Go to stage ${stage}`,
      style: { background: css(color), color: textOn(color) }, onclick: () => explorer.motion.go(stage),
    });
  }

  function roiCrop(canvas, box, side, map) {
    const [w, h] = [Math.max(box[2] - box[0], 1), Math.max(box[3] - box[1], 1)];
    const scale = SIDE / Math.max(w, h);
    const [width, height] = [Math.max(w * scale, 24), Math.max(h * scale, 24)];
    const g = sharp(canvas, width, height);
    drawCrop(g, explorer, box, [0, 0, width, height]);
    drawGrid(g, [0, 0, width, height], side, map, (value) => css(explorer.heat(value), 0.15 + 0.55 * value));
  }

  function filters(trace, row, state) {
    if (!trace.roiAfter) return [note(trace.missing.filters)];
    const columns = [];
    for (let stage = 1; stage <= trace.stages; stage++) {
      columns.push(make("div", { class: "srl-look", "aria-current": String(stage === state) },
        heatmap(trace.map("before", stage, row), trace.roiSide, `before the filters, stage ${stage}`),
        heatmap(trace.map("after", stage, row), trace.roiSide, `after the filters, stage ${stage}`),
        stageButton(stage)));
    }
    return [
      note("The RoI feature before (top) and after (below) the proposal's own two layers. Bright bins stand out from the RoI's mean; each row is relative to its largest value."),
      make("div", { class: "srl-looks srl-maps" }, ...columns),
    ];
  }

  function heatmap(values, side, words) {
    const canvas = make("canvas", { role: "img", "aria-label": words, title: words, width: side, height: side });
    const g = canvas.getContext("2d");
    values.forEach((value, i) => {
      g.fillStyle = css(explorer.heat(value));
      g.fillRect(i % side, Math.floor(i / side), 1, 1);
    });
    return canvas;
  }

  function similarity(trace, row, state) {
    if (!trace.hasFeatures) return [note(trace.missing.features)];
    const states = Array.from({ length: trace.stages + 1 }, (_, i) => i);
    const head = make("tr", {}, make("td"), ...states.map((s) => make("th", { text: String(s), scope: "col" })));
    const lines = states.map((a) => make("tr", {}, make("th", { text: String(a), scope: "row" }),
      ...states.map((b) => {
        const value = trace.between(row, a, b);
        const color = explorer.heat(Math.max(0, value));
        return make("td", {
          text: a === b ? "" : cosineText(value), title: `cosine of its feature at ${a} and at ${b}`,
          style: { background: css(color), color: textOn(color) }, "aria-current": String(a === state || b === state),
        });
      })));
    const table = make("table", { class: "srl-matrix", style: { minWidth: `${(states.length + 1) * CELL_LEAST}px` } }, make("tbody", {}, head, ...lines));
    const near = trace.near(state, row);
    const others = near.length ? `Most similar proposals at ${state ? `stage ${state}` : "the start"}, by cosine` : "There is no other proposal.";
    return [make("div", { class: "srl-beside" },
      make("div", {}, note("Its own feature compared between stages, by cosine"), make("div", { class: "srl-scroll" }, table)),
      make("div", {}, note(others), make("div", { class: "srl-list" }, ...near.map(({ row: other, cosine }) => partner(
        trace, other, cosine, `${cosineText(cosine)} ${trace.words(state, other)}`,
      )))),
      among(trace, state))];
  }

  function among(trace, state) {
    if (!trace.hasFeatures || trace.group.length < 2) return null;
    const when = state ? `at stage ${state}` : "at the start";
    return make("div", {}, note(`Among proposals ${when}, cosine`), amongMatrix(explorer, state));
  }

  // Nothing is chosen: what can be said of all of them.
  function overview(trace, tab, state) {
    const lacking = missingFirst(trace, tab);
    const keys = matchMedia("(hover: none)").matches ? "" : ", or press ↓";
    const choose = note(`Choose a proposal: click a box, a point or a detection${keys}.`);
    const shown = tab === "similarity" ? [among(trace, state)] : filmStrips(explorer);
    const what = tab !== "similarity" && shown.length && note("What was in each detection's box, from the learned proposal to the last stage.");
    return [lacking && note(lacking), choose, what, tab === "similarity" ? shown[0] : make("div", { class: "srl-films" }, ...shown)];
  }

  const looks = { attention, roi, filters, similarity };

  return {
    element,
    update() {
      const trace = explorer.trace();
      const { tab, position, threshold } = store.state;
      const row = explorer.subject();
      const state = Math.round(position);
      TABS.forEach(([name], i) => {
        buttons[i].setAttribute("aria-selected", String(name === tab));
        buttons[i].tabIndex = name === tab ? 0 : -1;
      });
      const about = row >= 0 || tab === "similarity" ? `${row} ${state}` : `all ${threshold}`;
      const key = [tab, about, Boolean(explorer.image()), explorer.theme()].join();
      if (built === key && panel.trace === trace) return;
      built = key;
      panel.trace = trace;
      const shown = row >= 0 ? looks[tab](trace, row, state) : overview(trace, tab, state);
      panel.replaceChildren(...shown.filter(Boolean));
    },
  };

  function missingFirst(trace, tab) {
    if (tab === "filters" && trace.roiAfter) return null;
    if (tab === "roi") return null;
    return trace.missing[tab === "similarity" ? "features" : tab] ?? null;
  }
}
