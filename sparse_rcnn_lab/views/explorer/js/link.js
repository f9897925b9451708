// Where the stages run again. A link is an object with
//
//   run({ intervention, history }) -> a promise of { edited }: the payload (payload.py) of the trace
//     after the intervention, null where it changes nothing. It rejects with an Error whose message
//     is for people; `lost: true` on it means that there will be no more answers.
//   listen(hear), optional: hear({ intervention, history, edited, error }) when something other than
//     this page made a change, as a cell of the notebook may.
//   close(), optional.
//
// An intervention always holds all changes (intervention.py), and the history all interventions
// before it, so that a link needs no memory. `changes.js` runs one at a time. A page has its link in
// `model.link`; a widget's is its kernel; without a link nothing can be changed.

const PATIENCE = 6000; // milliseconds without an answer until a person is told

export function linkOf(model) {
  if (model.link) return model.link;
  return model.get("options")?.live && model.send ? kernelLink(model) : null;
}

function kernelLink(model) {
  let serial = Date.now(); // another view of the model counts from elsewhere
  let open = null; // {serial, resolve, reject} of the message without an answer
  let hear = () => {};
  const told = () => {
    const answer = model.get("answer");
    if (!answer) return;
    const edited = model.get("edited");
    if (!open || !answer.serial) return hear({ ...answer, edited });
    if (answer.serial !== open.serial) return; // of a message that was given up
    const { resolve, reject } = open;
    open = null;
    if (answer.error) reject(new Error(answer.error));
    else resolve({ edited });
  };
  model.on?.("change:answer", told);
  return {
    run: (message) => new Promise((resolve, reject) => {
      serial += 1;
      const own = { serial, resolve, reject };
      open = own;
      const silent = () => {
        if (open !== own) return;
        open = null;
        reject(lost("The kernel does not answer: it is busy, or gone. All that was recorded stays here to look at; to change something, run the cell again."));
      };
      setTimeout(silent, PATIENCE);
      try {
        model.send({ ...message, serial });
      } catch {
        silent();
      }
    }),
    listen(listener) { hear = listener; },
    close: () => model.off?.("change:answer", told),
  };
}

// ask: posts { intervention } -> a promise of a fetch's Response, as JSON: { edited } or { problem }.
export function serverLink(ask) {
  return {
    async run({ intervention }) {
      const answer = await ask({ intervention }).catch(() => {
        throw lost("The app does not answer. Is it still running?");
      });
      const told = await answer.json().catch(() => ({}));
      if (told.problem || !answer.ok) throw new Error(told.problem ?? `The app answered with an error (${answer.status}).`);
      return told;
    },
  };
}

const lost = (words) => Object.assign(new Error(words), { lost: true });
