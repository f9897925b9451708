// The line above the image, what a person should know, and the same for a screen reader.

import { scoreText } from "./data.js";
import { make, setText } from "./dom.js";

const QUIET = 300; // milliseconds a stage must last to be read out

export function createStatus(explorer) {
  const { store, style } = explorer;
  const chip = make("i", { class: "srl-chip" });
  const heading = make("strong", { class: "srl-stage" });
  const found = make("span", {});
  const about = make("span", { class: "srl-facts" });
  const notice = make("p", { class: "srl-notice", role: "status" });
  const live = make("div", { class: "srl-live", "aria-live": "polite", role: "status" });
  let telling = 0;

  const standing = opening(explorer.base());
  explorer.notice = (text) => {
    setText(notice, text || standing);
    notice.hidden = !notice.textContent;
  };
  explorer.notice("");

  function tell(trace, state, count) {
    clearTimeout(telling);
    telling = setTimeout(() => {
      const { chosen, playing } = store.state;
      if (playing) return;
      const row = chosen === null ? -1 : trace.row(chosen);
      const one = row < 0 ? "" : `Proposal ${chosen}: ${trace.words(state, row)}.`;
      const where = state ? `Stage ${state} of ${trace.stages}, ${many(count)}.` : "Learned proposals.";
      setText(live, `${where} ${one}`);
    }, QUIET);
  }

  return {
    element: make("div", { class: "srl-status" }, chip, heading, found, about),
    notice,
    live,
    update() {
      const trace = explorer.trace();
      const state = Math.round(store.state.position);
      const count = trace.detections(state, store.state.threshold).length;
      const least = scoreText(store.state.threshold);
      chip.style.background = style.stages[Math.min(state, style.stages.length - 1)];
      setText(heading, state ? `stage ${state}` : "learned proposals");
      setText(found, state ? `${many(count)}, score ≥ ${least}` : "no score yet");
      setText(about, `${trace.payload.model} · ${trace.count} proposals · ${trace.width}×${trace.height} px`);
      tell(trace, state, count);
    },
    close() { clearTimeout(telling); },
  };
}

const many = (count) => `${count} detection${count === 1 ? "" : "s"}`;

function opening(trace) {
  const notes = [...trace.notes];
  const long = Math.max(trace.width / trace.height, trace.height / trace.width);
  if (long > 5) notes.push(`The image is ${trace.width}×${trace.height} px; it is shown squeezed.`);
  if (trace.missing.image) notes.push(trace.missing.image);
  return notes.join(" ");
}
