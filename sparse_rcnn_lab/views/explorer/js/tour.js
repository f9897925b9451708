// A tour in six steps: each says one thing, points at it and does it, on the image without anybody's
// changes. It can be left at any time; what was changed before is then there again. Without a link
// the two steps that change something are left out. It does not depend on the app: any page with an
// explorer has it (`el.explorer.tour`).

import { NOTHING, withEdit } from "./changes.js";
import { make, setText } from "./dom.js";
import { iou } from "./outcome.js";

const PULL = 900; // milliseconds that a box is dragged
const EARLY = 2; // the stage after which it is, where there are so many

export function createTour(explorer) {
  const { store, motion, root } = explorer;
  const base = () => explorer.base();
  const words = make("p", {});
  const count = make("small", {});
  const button = (text, action) => make("button", { type: "button", text, onclick: action });
  const back = button("Back", () => go(at - 1));
  const next = button("Next", () => go(at + 1));
  const element = make("section", { class: "srl-tour", role: "dialog", "aria-label": "Guided tour", hidden: "" },
    words, make("div", { class: "srl-row" }, count, back, next, button("Leave", stop)));
  let steps = [];
  let at = -1;
  let before = null; // what was shown and changed when it began
  let run = 0; // of the step: one that was left does nothing more

  const wait = (ms) => new Promise((done) => setTimeout(done, ms));
  const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
  const find = (selector) => root.querySelector(selector);
  const settled = async () => { while (explorer.changes.waiting) await wait(30); };

  // The proposal that the steps are about: the best detection, else the best score.
  function hero() {
    const [first] = explorer.ends(base(), store.state.threshold);
    return base().ids[first ?? explorer.ends(base(), 0).values().next().value ?? 0];
  }

  function ending(trace, id) {
    const row = trace.row(id);
    return row < 0 ? null : trace.box(trace.stages, row);
  }

  const name = (id) => base().className(base().label(base().stages, base().row(id))) || "object";
  const found = (trace) => trace.detections(trace.stages, store.state.threshold).length;
  const many = (number, thing) => `${number} ${thing}${number === 1 ? "" : "s"}`;

  // From its own place to the other side of the image, as a hand would.
  async function drag(id, early, alive) {
    const box = base().box(early, base().row(id));
    if (!box) return;
    const centre = (box[0] + box[2]) / 2;
    const away = (centre < base().width / 2 ? 1 : -1) * base().width * 0.3;
    const began = performance.now();
    for (let share = 0; share < 1 && alive();) {
      share = calm() ? 1 : Math.min(1, (performance.now() - began) / PULL);
      const moved = box.map((value, i) => value + (i % 2 ? 0 : away * share));
      const changes = withEdit(NOTHING.changes, id, early, { box: moved });
      explorer.changes.attempt({ ...NOTHING, changes }, false);
      await new Promise(requestAnimationFrame);
    }
    await settled();
  }

  function all() {
    const id = hero();
    const early = Math.min(EARLY, base().stages - 1); // something must run after it
    const when = early ? `after stage ${early}` : "before stage 1";
    const changing = [
      {
        target: ".srl-pictures",
        text: () => `Now proposal ${id} is pulled off its ${name(id)} ${when}. The later stages run again from there.`,
        async act(alive) {
          explorer.choose(id);
          motion.go(early);
          await wait(calm() ? 0 : 600);
          if (alive()) await drag(id, early, alive);
          await wait(calm() ? 0 : 700);
          if (!alive()) return;
          motion.go(base().stages);
          const [was, now] = [ending(base(), id), ending(explorer.trace(), id)];
          const overlap = was && now ? iou(was, now) : 0;
          setText(words, overlap > 0.5
            ? `Pulled off ${when}, it came back: it ends where it would have ended (IoU ${overlap.toFixed(2)}; dashed: the boxes as they were). Each stage looks again and corrects.`
            : `Pulled off ${when}, it did not come back to its ${name(id)}: too few stages were left, or another proposal took it (dashed: the boxes as they were).`);
        },
      },
      {
        target: ".srl-editcard",
        text: () => "Now self-attention is off: no proposal sees the others.",
        async act(alive) {
          explorer.choose(null);
          explorer.changes.attempt({ ...NOTHING, ablation: { ...NOTHING.ablation, self_attention: false } }, false);
          motion.go(base().stages);
          await settled();
          if (!alive()) return;
          const [was, now] = [found(base()), found(explorer.trace())];
          setText(words, `Without self-attention no proposal sees the others: ${many(was, "detection")} became ${now}. ${now > was
            ? "Rivals no longer agree who takes an object; attention does what other detectors leave to non-maximum suppression."
            : "There are no more on this image; on one with many objects, several rivals would each detect the same one."}`);
        },
      },
    ];
    return [
      {
        target: ".srl-pictures",
        text: () => `These are the ${many(base().count, "learned proposal")}: boxes, each with a feature. They are the same for every image; none has looked at this one yet.`,
        act() {
          store.set({ chosen: null, show: "all", compare: "after" });
          motion.go(0);
        },
      },
      {
        target: ".srl-transport",
        text: () => `${many(base().stages, "stage")}. In each, every proposal looks at the image inside its box, then moves the box and scores it again. Drag the slider to see any of them.`,
        act() {
          store.set({ chosen: null });
          motion.jump(0);
          motion.play();
        },
      },
      {
        target: ".srl-about .srl-card",
        text: () => `This is proposal ${id}. The bars are its score at each stage: how sure it is of a ${name(id)}. A score above the threshold (${store.state.threshold.toFixed(2)}) is a detection; nothing is filtered afterwards.`,
        act() {
          explorer.choose(id);
          motion.go(base().stages);
        },
      },
      {
        target: ".srl-tabcard",
        text: () => "Before it looks at the image, each proposal looks at the others: self-attention. The lines go to those it attends to most, thicker for more. So rivals agree which of them takes an object.",
        act() {
          store.set({ tab: "attention" });
          explorer.choose(id);
          motion.go(Math.min(3, base().stages));
        },
      },
      ...(explorer.link ? changing : []),
    ];
  }

  async function go(step) {
    if (step >= steps.length) return stop();
    at = Math.max(0, step);
    run += 1;
    const own = run;
    const { target, text, act } = steps[at];
    setText(words, text());
    setText(count, `${at + 1} of ${steps.length}`);
    back.disabled = at === 0;
    setText(next, at === steps.length - 1 ? "Done" : "Next");
    point(find(target));
    if (explorer.edited() || explorer.changes.waiting) {
      explorer.changes.attempt(NOTHING, false);
      await settled();
    }
    if (own === run) await act(() => own === run);
  }

  function point(what) {
    root.querySelectorAll(".srl-pointed").forEach((one) => one.classList.remove("srl-pointed"));
    what?.classList.add("srl-pointed");
    what?.scrollIntoView({ block: "nearest", behavior: calm() ? "auto" : "smooth" });
  }

  function start() {
    if (at >= 0) return;
    const { chosen, show, tab, compare } = store.state;
    before = {
      intervention: explorer.changes.intervention, shown: { chosen, show, tab, compare },
      focused: root.getRootNode().activeElement,
    };
    steps = all();
    element.hidden = false;
    go(0);
    next.focus({ preventScroll: true });
  }

  function stop() {
    if (at < 0) return;
    at = -1;
    run += 1;
    point(null);
    if (element.contains(root.getRootNode().activeElement)) before.focused?.focus({ preventScroll: true });
    element.hidden = true;
    if (explorer.changes.intervention !== before.intervention) explorer.changes.attempt(before.intervention, false);
    store.set(before.shown);
    motion.go(base().stages);
  }

  element.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step && event.key !== "Escape") return;
    event.preventDefault();
    event.stopPropagation();
    if (step) go(at + step);
    else stop();
  });

  return { element, start, stop, get step() { return at; } };
}
