// The card of the chosen proposal: score, IoU and level by stage. Without one: what was detected.

import { css, textOn } from "./colors.js";
import { scoreText } from "./data.js";
import { make, setText } from "./dom.js";

export function createProposal(explorer) {
  const { store, colors, motion } = explorer;
  const title = make("h3", { class: "srl-title" });
  const deselect = make("button", {
    type: "button", class: "srl-quiet", text: "deselect", title: "Deselect the proposal (Escape)",
    onclick: () => explorer.choose(null),
  });
  const body = make("div", { class: "srl-proposal" });
  const element = make("section", { class: "srl-card", "aria-label": "Proposal" },
    make("div", { class: "srl-row" }, title, deselect), body);
  let cells = [];
  let built = "";

  // Columns are states; each is a button that goes there.
  function buildTable(trace, row) {
    const head = make("div", { class: "srl-strip" }, make("span", { class: "srl-name", text: "stage" }));
    cells = [];
    for (let state = 0; state <= trace.stages; state++) {
      const color = colors.stage(state);
      const go = make("button", {
        type: "button", class: "srl-state", text: String(state), title: state ? `Go to stage ${state}` : "Go to the learned proposals",
        style: { background: css(color), color: textOn(color) }, onclick: () => motion.go(state),
      });
      head.append(go);
      cells.push(go);
    }
    body.replaceChildren(head,
      classStrip(trace, row),
      strip("score", trace, (state) => (state ? bar(trace.score(state, row), colors.stage(state)) : blank("no score yet"))),
      ...(trace.ious ? [strip("IoU", trace, (state) => bar(trace.iou(state, row), colors.stage(state)))] : []),
      strip("level", trace, (state) => levelCell(trace, state, row)),
      ...(trace.ious ? [make("p", { class: "srl-note", text: matchWords(trace, row) })] : []));
  }

  function strip(name, trace, cell) {
    const all = Array.from({ length: trace.stages + 1 }, (_, state) => cell(state));
    return make("div", { class: `srl-strip srl-of-${name}` }, make("span", { class: "srl-name", text: name }), ...all);
  }

  const blank = (help) => make("span", { class: "srl-blank", text: "–", title: help });

  function bar(value, color) {
    const fill = make("i", { style: { height: `${Math.round(value * 100)}%`, background: css(color) } });
    return make("span", {}, make("span", { class: "srl-well" }, fill),
      make("b", { text: scoreText(value) }));
  }

  // A class is written once for all stages in a row that say it, so that there is room to read it.
  function classStrip(trace, row) {
    const cells = [make("span", { class: "srl-name", text: "class" }), blank("no class yet")];
    for (let stage = 1; stage <= trace.stages;) {
      const label = trace.label(stage, row);
      let end = stage + 1;
      while (end <= trace.stages && trace.label(end, row) === label) end += 1;
      const name = trace.className(label);
      const color = colors.ofClass(label);
      const when = end - stage > 1 ? `stages ${stage} to ${end - 1}` : `stage ${stage}`;
      cells.push(make("b", {
        class: "srl-class", text: name, title: `${name}, ${when}`,
        style: { gridColumn: `span ${end - stage}`, background: css(color), color: textOn(color) },
      }));
      stage = end;
    }
    return make("div", { class: "srl-strip srl-of-class" }, ...cells);
  }

  function levelCell(trace, state, row) {
    if (!state) return blank("nothing is pooled yet");
    const level = trace.level(state, row);
    return make("span", { class: "srl-level", text: `p${level}`, title: `Pooled from p${level}: one step is ${2 ** level} input pixels` });
  }

  function matchWords(trace, row) {
    const at = [];
    for (let stage = 1; stage <= trace.stages; stage++) if (trace.match(stage, row) >= 0) at.push(stage);
    const target = trace.targets[row];
    const name = trace.truthLabels ? ` (${trace.className(trace.truthLabels[target])})` : "";
    if (!trace.matches) return `IoU with object ${target}${name}.`;
    const when = at.length === trace.stages ? "matched at every stage"
      : at.length ? `matched at stage ${at.join(", ")}` : "never matched";
    return `IoU with object ${target}${name}; ${when}.`;
  }

  function buildList(trace, state) {
    const found = trace.detections(state, store.state.threshold);
    const seen = new Set();
    const items = found.filter(({ row }) => !seen.has(row) && seen.add(row)).slice(0, 40).map(({ row, label }) => (
      make("button", {
        type: "button", class: "srl-item",
        onclick: () => explorer.choose(trace.ids[row]),
        onpointerenter: () => store.set({ hovered: trace.ids[row] }),
        onpointerleave: () => store.set({ hovered: null }),
      }, make("i", { class: "srl-dot", style: { background: css(colors.ofClass(label)) } }),
      make("span", { text: trace.words(state, row, store.state.threshold) }),
      make("small", { text: `proposal ${trace.ids[row]}` }))
    ));
    const empty = state < 1
      ? "The learned proposals: the same for every image; none has looked at this one yet."
      : "No proposal reaches this score here. Lower the threshold, or choose a box in the image.";
    body.replaceChildren(items.length ? make("div", { class: "srl-list" }, ...items) : make("p", { class: "srl-note", text: empty }));
  }

  return {
    element,
    update() {
      const trace = explorer.trace();
      const state = Math.round(store.state.position);
      const row = explorer.subject();
      deselect.hidden = store.state.chosen === null;
      const key = row >= 0 ? `row ${row}` : `list ${state} ${store.state.threshold} ${store.state.chosen}`;
      if (key !== built || body.trace !== trace) {
        built = key;
        body.trace = trace;
        body.classList.toggle("srl-truth", Boolean(trace.ious));
        if (row >= 0) buildTable(trace, row);
        else buildList(trace, state);
      }
      if (row >= 0) {
        setText(title, `proposal ${trace.ids[row]} · ${trace.words(state, row)}`);
        cells.forEach((cell, own) => cell.setAttribute("aria-current", String(own === state)));
      } else if (store.state.chosen !== null) {
        setText(title, `proposal ${store.state.chosen} was dropped`);
      } else {
        const count = trace.detections(state, store.state.threshold).length;
        setText(title, state ? `${count} detection${count === 1 ? "" : "s"} at stage ${state}` : `${trace.count} learned proposals`);
      }
    },
  };
}
