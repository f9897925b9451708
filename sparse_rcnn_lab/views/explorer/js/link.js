// The talk with the kernel. An intervention is always sent as a whole (intervention.py), so that
// the newest one is all that counts: while one runs, only the latest of the next is kept.

const PATIENCE = 6000; // milliseconds without an answer until a person is told

export const NOTHING = {
  changes: [],
  ablation: {
    self_attention: true, heads: null, filters: "own", swap_filters: [],
    freeze_boxes: false, freeze_features: false,
  },
  start: 0,
  repeat: 0,
};

export function createLink(explorer, changed) {
  const { model } = explorer;
  const live = Boolean(explorer.options.live && model.send);
  const first = model.get("answer") ?? {};
  let intervention = { ...NOTHING, ...first.intervention };
  let confirmed = intervention; // what the kernel last said
  let undoable = first.undo ?? 0;
  let serial = 0;
  let running = null; // {serial}
  let queued = null;
  let timer = 0;
  let silent = false;

  function send(message) {
    if (running) {
      // What is kept must not be lost to a preview that comes later.
      if (queued?.keep && !message.keep) message = { ...message, keep: true, before: queued.before };
      queued = message;
      return;
    }
    serial += 1;
    running = { serial };
    clearTimeout(timer);
    timer = setTimeout(() => silence(), PATIENCE);
    try {
      model.send({ ...message, serial });
    } catch {
      silence();
    }
  }

  function silence() {
    running = null;
    queued = null;
    silent = true;
    intervention = confirmed;
    explorer.notice("The kernel does not answer: it is busy, or gone. All that was recorded stays here to look at; to change something, run the cell again.");
    changed();
  }

  function answered() {
    const answer = model.get("answer");
    if (!answer || (running && answer.serial && answer.serial !== running.serial)) return;
    running = null;
    clearTimeout(timer);
    if (silent || answer.error || link.complained) explorer.notice(answer.error ?? "");
    link.complained = Boolean(answer.error);
    silent = false;
    undoable = answer.undo ?? 0;
    confirmed = { ...NOTHING, ...answer.intervention };
    if (!queued) intervention = confirmed;
    explorer.useEdited(model.get("edited"));
    changed();
    if (queued) {
      const next = queued;
      queued = null;
      send(next);
    }
  }

  model.on?.("change:answer", answered);

  const link = {
    live,
    complained: false,
    get intervention() { return intervention; },
    get undoable() { return undoable; },
    get waiting() { return running !== null; },
    get silent() { return silent; },
    attempt(changes, keep = true, before = intervention) {
      intervention = { ...intervention, ...changes };
      send({ kind: "try", intervention, keep, before });
      changed();
    },
    undo() { send({ kind: "undo" }); },
    reset() { send({ kind: "reset" }); },
    close() {
      clearTimeout(timer);
      model.off?.("change:answer", answered);
    },
  };
  return link;
}

// The changes with one more edit: a proposal has one entry a state, box and feature in it.
export function withEdit(changes, proposal, stage, edit) {
  const same = (one) => !one.drop && one.proposals[0] === proposal && one.stage === stage;
  const old = changes.find(same) ?? { proposals: [proposal], stage, box: null, feature: null, drop: false };
  return [...changes.filter((one) => !same(one)), { ...old, ...edit }];
}
