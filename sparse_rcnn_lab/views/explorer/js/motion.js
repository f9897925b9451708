// Moves `position` from state to state, eased, one animation frame at a time.

const STEP = 240; // milliseconds from one state to the next when a key was pressed
const PLAY = 800; // when playing
const FIRST = 30; // how far the first redraw has come already
const LONGEST = 50; // that a frame counts: a browser that was busy goes on where it stopped
const REST = 260; // at a state, before playing on

export function createMotion(store, lastState, calm, inFrame) {
  let frame = 0;
  let timer = 0;

  function halt() {
    cancelAnimationFrame(frame);
    clearTimeout(timer);
  }

  function move(to, duration, then) {
    halt();
    const from = store.state.position;
    if (calm() || from === to) {
      store.set({ position: to, stage: to });
      then?.();
      return;
    }
    let passed = 0;
    let last = performance.now() - FIRST;
    const tick = (now) => {
      passed += Math.max(0, Math.min(now - last, LONGEST));
      last = now;
      const share = Math.min(passed / duration, 1);
      const eased = share < 0.5 ? 4 * share ** 3 : 1 - (2 - 2 * share) ** 3 / 2;
      const nearest = share < 1 ? {} : { stage: to };
      store.set({ position: share < 1 ? from + (to - from) * eased : to, ...nearest });
      if (share < 1) frame = inFrame(tick);
      else then?.();
    };
    tick(last + FIRST); // no waiting for a frame: what a key does is drawn at once
  }

  function onward(pace) {
    const next = Math.floor(store.state.position + 1e-6) + 1;
    if (!store.state.playing) return;
    if (next > lastState()) {
      store.set({ playing: false });
      return;
    }
    store.set({ stage: next });
    move(next, PLAY * pace, () => {
      timer = setTimeout(() => onward(pace), (calm() ? PLAY + REST : REST) * pace);
    });
  }

  const motion = {
    go(stage) {
      const to = Math.max(0, Math.min(stage, lastState()));
      store.set({ playing: false, stage: to });
      move(to, STEP * Math.max(1, Math.abs(to - store.state.position) ** 0.5));
    },
    jump(position) {
      halt();
      const at = Math.max(0, Math.min(position, lastState()));
      store.set({ playing: false, position: at, stage: Math.round(at) });
    },
    play(pace = 1) {
      halt();
      if (store.state.position >= lastState()) store.set({ position: 0, stage: 0 });
      store.set({ playing: true });
      timer = setTimeout(() => onward(pace), REST * pace);
    },
    pause() {
      const nearest = Math.round(store.state.position);
      motion.go(nearest);
    },
    toggle() {
      if (store.state.playing) motion.pause();
      else motion.play();
    },
    halt,
  };
  return motion;
}
