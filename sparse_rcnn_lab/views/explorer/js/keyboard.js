// The keys: arrows walk through stages and proposals, space plays, escape deselects.

export function listenToKeys(explorer, place) {
  const { store, motion } = explorer;

  // Proposals as a person goes through them: the best at the last stage first.
  function walk(step) {
    const trace = explorer.trace();
    const rows = Array.from({ length: trace.count }, (_, row) => row);
    rows.sort((a, b) => trace.score(trace.stages, b) - trace.score(trace.stages, a));
    const ends = explorer.ends(trace, store.state.threshold);
    const order = store.state.show === "detections" && ends.size ? rows.filter((row) => ends.has(row)) : rows;
    const at = order.indexOf(trace.row(store.state.chosen));
    const next = at < 0 ? (step > 0 ? 0 : order.length - 1) : (at + step + order.length) % order.length;
    explorer.choose(trace.ids[order[next]]);
  }

  const keys = {
    ArrowLeft: () => motion.go(store.state.stage - 1),
    ArrowRight: () => motion.go(store.state.stage + 1),
    Home: () => motion.go(0),
    End: () => motion.go(explorer.trace().stages),
    ArrowDown: () => walk(1),
    ArrowUp: () => walk(-1),
    " ": () => motion.toggle(),
    Escape: () => (explorer.editing?.cancel() ? null : explorer.choose(null)),
  };

  // What a focused control needs for itself stays with it.
  function belongsTo(target, key) {
    if (key === "Escape") return false;
    if (target.matches("select, textarea, input[type=number], input[type=text]")) return true;
    if (target.matches("input[type=range]")) return !target.matches(".srl-range");
    if (target.matches("button, input[type=checkbox]")) return key === " ";
    return false;
  }

  const hear = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const action = keys[event.key];
    if (!action || belongsTo(event.target, event.key)) return;
    event.preventDefault();
    event.stopPropagation();
    action();
    explorer.drawNow();
  };
  place.addEventListener("keydown", hear);
  return () => place.removeEventListener("keydown", hear);
}
