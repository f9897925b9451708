// What is shown, in one place. Everything else reads it and is told when it changed.

export const START = {
  position: 0, // place on the way through the states
  stage: 0, // the state that was asked for; position moves there
  playing: false,
  chosen: null, // id of a proposal
  hovered: null,
  peeked: null, // hovered in the image or the plane: shown as if chosen, while nothing is
  show: "all", // all | detections | one
  color: "class", // class | score | match | proposal | stage
  threshold: 0.3,
  trails: true,
  truth: true,
  tab: "attention", // attention | roi | filters | similarity
  compare: "after", // after | before | both, once something was changed
};

export function createStore(first) {
  const state = { ...START, ...first };
  const listeners = [];
  return {
    state,
    listen(listener) { listeners.push(listener); },
    set(changes) {
      const changed = Object.keys(changes).filter((key) => state[key] !== changes[key]);
      if (!changed.length) return;
      Object.assign(state, changes);
      listeners.forEach((listener) => listener(new Set(changed)));
    },
  };
}
