// The card to change something. Its controls need a link, at whose other end the stages run.

import { createChanges, usedOf, withEdit } from "./changes.js";
import { make, segments, setText } from "./dom.js";
import { createDrag } from "./drag.js";
import { outcomeList } from "./outcome.js";

const MOST = 40; // extra stages
const COMPARE_HELP = {
  after: "With the changes; dashed: where things were",
  before: "As recorded",
  both: "Before and after, side by side",
};

export function createEditing(explorer) {
  const { store } = explorer;
  const made = createChanges(explorer, () => explorer.refresh());
  const drag = createDrag(explorer, made);
  explorer.editing = drag;
  explorer.changes = made;
  const at = () => Math.round(store.state.position);
  const row = () => (store.state.chosen === null ? -1 : explorer.trace().row(store.state.chosen));

  const hint = make("p", { class: "srl-note srl-hint" });
  const numbers = ["left", "top", "right", "bottom"].map((side) => make("input", {
    type: "number", step: "1", placeholder: side, "aria-label": `${side}, pixels`, title: `${side}, pixels of the image`, onchange: typed,
    onkeydown: (event) => { if (event.key === "Enter") typed(); }, // in JupyterLab Enter is no change
  }));
  const act = (text, title, action) => make("button", { type: "button", text, title, onclick: action });
  const drop = act("drop it", "Later stages run without this proposal", () => made.attempt({
    changes: [...made.intervention.changes, { proposals: [store.state.chosen], stage: at(), box: null, feature: null, drop: true }],
  }));
  const zero = act("zero its feature", "Its feature becomes zeros at the stage shown", () => made.attempt({
    changes: withEdit(made.intervention.changes, store.state.chosen, at(), { feature: "zero" }),
  }));
  const ablate = (part) => made.attempt({ ablation: { ...made.intervention.ablation, ...part } });
  const other = make("input", { type: "number", min: "0", step: "1", class: "srl-id", "aria-label": "Proposal to swap filters with", title: "Number of the other proposal" });
  const swap = act("swap filters with", "Both proposals exchange their dynamic filters", () => {
    if (other.value === "") explorer.notice("Write the number of the other proposal beside the button.");
    else if (Number(other.value) === store.state.chosen) explorer.notice("Swapping needs another proposal than the chosen one.");
    else ablate({ swap_filters: [...made.intervention.ablation.swap_filters, [store.state.chosen, Number(other.value)]] });
  });
  const toggles = [
    ["self_attention", "self-attention", "Off: proposals no longer see each other"],
    ...(explorer.options.overlap_bias ? [["overlap_bias", "overlap bias", "Off: attention no longer favours overlapping proposals of higher score"]] : []),
    ["freeze_boxes", "freeze boxes", "Boxes stay where they are"],
    ["freeze_features", "freeze features", "Every stage is given the same features"],
  ].map(([name, text, title]) => {
    const box = make("input", { type: "checkbox", onchange: () => ablate({ [name]: box.checked }) });
    return { name, box, label: make("label", { class: "srl-check", title }, box, make("span", { text })) };
  });
  const start = make("select", {
    "aria-label": "First stage that the ablations act on", title: "Where ablations begin: self-attention or overlap bias off, frozen parts, swapped filters",
    onchange: () => made.attempt({ start: Number(start.value) }),
  });
  const more = act("+1 stage", "Run the last stage once more", () => made.attempt({ repeat: Math.min(made.intervention.repeat + 1, MOST) }));
  const less = act("−1 stage", "Run the last stage once less", () => made.attempt({ repeat: Math.max(made.intervention.repeat - 1, 0) }));
  const undo = act("undo", "Take back the last change", () => made.undo());
  const reset = act("reset", "Take back all changes", () => made.reset());
  const done = make("ul", { class: "srl-changes", "aria-label": "Changes" });
  const compare = segments("Compare", [["before", "before"], ["after", "after"], ["both", "side by side"]], COMPARE_HELP,
    (value) => store.set({ compare: value }));
  const told = make("div", { class: "srl-list", "aria-label": "What it did to the detections" });
  const result = make("div", { class: "srl-result" }, compare.element, told);
  let listed = null; // the intervention whose changes are listed
  let compared = null; // what was told of: {edited, threshold}
  const busy = make("small", { class: "srl-busy" });
  const own = make("div", { class: "srl-own" },
    make("div", { class: "srl-row srl-numbers" }, ...numbers),
    make("div", { class: "srl-buttons" }, drop, zero, make("span", { class: "srl-pair" }, swap, other)));
  const controls = make("div", { class: "srl-edit" },
    make("div", { class: "srl-buttons" }, ...toggles.map(({ label }) => label)),
    make("div", { class: "srl-buttons" }, make("label", { class: "srl-field" }, make("span", { text: "these act from" }), start)),
    make("div", { class: "srl-buttons" }, make("span", { class: "srl-pair" }, less, more)),
    hint, own);
  const title = make("h3", { text: made.live ? "change something" : "what was changed" });
  const needs = make("p", { class: "srl-note", text: explorer.options.needs ?? "" });
  const taking = make("span", { class: "srl-pair" }, undo, reset);
  const element = make("section", { class: "srl-card srl-editcard", "aria-label": "Change something" },
    make("div", { class: "srl-row" }, title, busy, taking), controls, done, result, needs);

  function typed() {
    const box = numbers.map((input) => Number(input.value));
    const known = made.intervention.changes.find(({ proposals, stage, drop: gone }) => !gone && proposals[0] === store.state.chosen && stage === at());
    if (known?.box && known.box.every((value, i) => value === box[i] || Math.round(value) === box[i])) return; // said twice
    if (numbers.some((input) => input.value === "") || box[2] <= box[0] || box[3] <= box[1]) {
      explorer.notice("Right must be larger than left, and bottom larger than top.");
      return;
    }
    explorer.notice("");
    drag.place(store.state.chosen, box);
  }

  // Each change in words, and what is left without it.
  function changes() {
    const { changes: all, ablation, repeat, start: from } = made.intervention;
    const when = (stage) => (stage ? `after stage ${stage}` : "before stage 1");
    const { ids } = explorer.base();
    const used = usedOf(all, ids);
    const cut = used < ids.length ? all.find((one) => one.drop && one.proposals.at(-1) === ids.at(-1)) : null;
    const without = (list, item) => list.filter((one) => one !== item);
    const on = (part) => ({ ablation: { ...ablation, ...part } });
    const names = (ids) => `proposal${ids.length > 1 ? "s" : ""} ${ids.join(", ")}`;
    const edited = (one) => [one.box && "box moved", one.feature && (one.feature === "zero" ? "feature zeroed" : "feature exchanged")].filter(Boolean).join(", ");
    const filters = { mean: "average filters for all", rolled: "the neighbour's filters" }[ablation.filters];
    return [
      ...all.map((one) => [
        one === cut ? `only the first ${used} of ${ids.length} proposals`
          : one.drop ? `${names(one.proposals)} dropped, ${when(one.stage)}` : `${names(one.proposals)}, ${when(one.stage)}: ${edited(one)}`,
        { changes: without(all, one) },
      ]),
      ...ablation.swap_filters.map((pair) => [`filters of ${pair[0]} and ${pair[1]} swapped, ${when(from)}`, on({ swap_filters: without(ablation.swap_filters, pair) })]),
      ...(ablation.self_attention ? [] : [[`self-attention off, ${when(from)}`, on({ self_attention: true })]]),
      ...(ablation.overlap_bias ? [] : [[`overlap bias off, ${when(from)}`, on({ overlap_bias: true })]]),
      ...(ablation.heads ? [[`attention heads on: ${ablation.heads.join(", ") || "none"}, ${when(from)}`, on({ heads: null })]] : []),
      ...(filters ? [[`${filters}, ${when(from)}`, on({ filters: "own" })]] : []),
      ...(ablation.freeze_boxes ? [[`boxes frozen, ${when(from)}`, on({ freeze_boxes: false })]] : []),
      ...(ablation.freeze_features ? [[`features frozen, ${when(from)}`, on({ freeze_features: false })]] : []),
      ...(repeat ? [[`last stage run ${repeat} time${repeat > 1 ? "s" : ""} more`, { repeat: 0 }]] : []),
    ];
  }

  explorer.hint = () => explorer.notice(`Nothing runs after stage ${explorer.trace().stages}. Go back a stage (←) to move a box, or add one with "+1 stage".`);

  function showBox(trace) {
    const found = row();
    const can = found >= 0 && explorer.editable(trace);
    const now = can ? explorer.draft(trace, found) ?? trace.box(at(), found) : null;
    numbers.forEach((input, i) => {
      input.disabled = !now;
      if (!input.matches(":focus")) input.value = now ? String(Math.round(now[i])) : "";
    });
    for (const button of [drop, zero, swap]) button.disabled = !can;
    own.classList.toggle("srl-away", found < 0);
    const where = at() ? `after stage ${at()}` : "before stage 1";
    const past = at() >= trace.stages;
    setText(hint, found < 0 ? "Choose a proposal: then drag its box or a corner of it, drop it, or change its feature or filters."
      : past ? `Nothing runs after stage ${trace.stages}: go back a stage (←), then drag the box.`
        : `Drag the box of proposal ${store.state.chosen} ${where}, or type it (left, top, right, bottom, px).`);
  }

  function update() {
    const trace = explorer.trace();
    const edited = explorer.edited();
    drag.settle();
    controls.hidden = taking.hidden = !made.live;
    needs.hidden = !explorer.options.needs;
    result.hidden = !edited;
    busy.textContent = made.waiting ? "running…" : "";
    title.parentElement.hidden = !made.live && !edited;
    element.classList.toggle("srl-silent", made.silent);
    if (made.live) {
      const last = explorer.base().stages;
      if (start.children.length !== last) {
        start.replaceChildren(...Array.from({ length: last }, (_, s) => make("option", { value: String(s), text: `stage ${s + 1} on` })));
      }
      start.value = String(made.intervention.start);
      toggles.forEach(({ name, box }) => { box.checked = made.intervention.ablation[name]; });
      less.disabled = !made.intervention.repeat;
      undo.disabled = !made.undoable;
      reset.disabled = !edited;
      showBox(trace);
    }
    showChanges();
    if (!edited) return;
    compare.mark(store.state.compare);
    const { threshold } = store.state;
    if (compared?.edited === edited && compared.threshold === threshold) return;
    compared = { edited, threshold };
    told.replaceChildren(...outcomeList(explorer));
  }

  // Rebuilt only where they changed, so that a button keeps its focus while it is pressed.
  function showChanges() {
    if (listed === made.intervention) return;
    listed = made.intervention;
    const list = changes();
    done.hidden = !list.length;
    done.replaceChildren(...list.map(([text, rest]) => make("li", {}, make("span", { text }),
      made.live ? make("button", { type: "button", class: "srl-quiet", text: "×", "aria-label": `Take back: ${text}`, onclick: () => made.attempt(rest) }) : null)));
  }

  return { element, update, close: () => made.close() };
}
