// What a person has changed, the result, and how to undo it. There is one run at a time: while one
// is on its way, only the newest of the next ones is kept.

export const NOTHING = {
  changes: [],
  ablation: {
    self_attention: true, overlap_bias: true, heads: null, filters: "own", swap_filters: [],
    freeze_boxes: false, freeze_features: false,
  },
  start: 0,
  repeat: 0,
};

export function createChanges(explorer, changed) {
  const { model, link } = explorer;
  const read = (answer) => ({
    intervention: { ...NOTHING, ...answer?.intervention }, history: answer?.history ?? [],
  });
  let now = read(model.get("answer")); // as requested
  let confirmed = now; // as it was last answered
  let running = false;
  let newer = false;
  let lost = false;
  let complained = false;

  function say(error) {
    if (error || lost || complained) explorer.notice(error?.message ?? "");
    complained = Boolean(error);
    lost = Boolean(error?.lost);
  }

  async function run() {
    newer = true;
    if (running) return;
    running = true;
    while (newer) {
      newer = false;
      const asked = now;
      try {
        const { edited } = await link.run(asked);
        confirmed = asked;
        say(null);
        explorer.useEdited(edited);
      } catch (error) {
        if (error.lost) newer = false;
        if (!newer) now = confirmed;
        say(error);
      }
      if (!newer) running = false;
      changed();
    }
  }

  link?.listen?.((told) => {
    confirmed = read(told);
    if (!running) now = confirmed;
    say(told.error ? new Error(told.error) : null);
    explorer.useEdited(told.edited);
    changed();
  });

  function ask(next) {
    now = next;
    run();
    changed();
  }

  return {
    live: Boolean(link),
    get intervention() { return now.intervention; },
    get undoable() { return now.history.length; },
    get waiting() { return running; },
    get silent() { return lost; },
    // keep: adds an entry to undo, back to `before`; without it, a change is tried, as while dragging.
    attempt(part, keep = true, before = now.intervention) {
      ask({
        intervention: { ...now.intervention, ...part },
        history: keep ? [...now.history, before] : now.history,
      });
    },
    undo() {
      ask({ intervention: now.history.at(-1) ?? NOTHING, history: now.history.slice(0, -1) });
    },
    reset() { ask({ intervention: NOTHING, history: [] }); },
    close: () => link?.close?.(),
  };
}

// "Use the first n" is a drop of the others before stage 1. How many of `ids` are used:
export function usedOf(changes, ids) {
  const cut = changes.find((one) => isCut(one, ids));
  return cut ? Array.from(ids).indexOf(cut.proposals[0]) : ids.length;
}

export function withFirst(changes, ids, number) {
  const others = changes.filter((one) => !isCut(one, ids));
  const gone = new Set(others.filter((one) => one.drop).flatMap((one) => one.proposals));
  const rest = Array.from(ids).slice(number).filter((id) => !gone.has(id));
  if (!rest.length) return others;
  return [...others, { proposals: rest, stage: 0, box: null, feature: null, drop: true }];
}

const isCut = (one, ids) => one.drop && one.stage === 0 && one.proposals.at(-1) === ids.at(-1);

// The changes with one more edit: a proposal has one entry a state, box and feature in it.
export function withEdit(changes, proposal, stage, edit) {
  const same = (one) => !one.drop && one.proposals[0] === proposal && one.stage === stage;
  const old = changes.find(same) ?? { proposals: [proposal], stage, box: null, feature: null, drop: false };
  return [...changes.filter((one) => !same(one)), { ...old, ...edit }];
}
