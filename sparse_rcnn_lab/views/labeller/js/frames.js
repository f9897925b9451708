// The images, their boxes and their changes, each of which can be undone and is saved.

const MOST = 200; // changes that can be taken back

// frames: [{id, url, width, height, boxes: [{name, box}], labelled}], boxes xyxy in pixels of the
// image.  save(frame): keeps one; a promise.
export function createFrames(frames, classes, save) {
  const listeners = [];
  const past = [], future = [];
  const state = {
    frames, classes: [...classes], at: 0, chosen: -1, name: classes[0] ?? "", proposals: [], unsaved: 0, problem: "",
    offered: -1, // the proposal that the keyboard has come to
    picked: false, // whether somebody chose that box, or it is only the last one made
    hint: "", // what the class taken last is for, where that may surprise
  };
  const tidy = (text) => text.trim().replace(/\s+/g, " ").slice(0, 60);
  const known = (name) => state.classes.find((one) => one.toLowerCase() === name.toLowerCase());
  const tell = (what = "boxes") => listeners.forEach((listener) => listener(what));
  const current = () => state.frames[state.at];
  const copy = (boxes) => boxes.map(({ name, box }) => ({ name, box: [...box] }));

  // One save after the other; a failed one is repeated until it succeeds, unless it was refused.
  const waiting = new Map();
  let running = false;
  async function keep(frame) {
    waiting.set(frame.id, frame);
    state.unsaved = waiting.size;
    tell("saved");
    if (running) return;
    running = true;
    while (waiting.size) {
      const [id, next] = waiting.entries().next().value;
      waiting.delete(id);
      try {
        await save(next);
        state.problem = "";
      } catch (error) {
        state.problem = error.message || "It cannot be saved.";
        if (!waiting.has(id) && !error.refused) waiting.set(id, next);
        state.unsaved = waiting.size;
        tell("saved");
        await new Promise((done) => setTimeout(done, 1000));
      }
      state.unsaved = waiting.size;
      tell("saved");
    }
    running = false;
  }

  function put(frame, boxes, labelled) {
    frame.boxes = copy(boxes);
    frame.labelled = labelled;
    keep(frame);
  }

  const frameOf = (id) => state.frames.find((frame) => frame.id === id);

  // Undoes or redoes one change: it moves from one list to the other; side says what it leaves.
  function step(from, to, side) {
    const one = from.pop();
    if (!one || !frameOf(one.id)) return false;
    to.push(one);
    const before = current();
    state.at = state.frames.indexOf(frameOf(one.id));
    put(current(), ...side(one));
    state.chosen = -1;
    tell(current() === before && before.boxes.length ? "boxes" : "frame"); // what was proposed stays;
    return true;
  }

  return {
    state, current, tell, keep,
    listen: (listener) => listeners.push(listener),
    // Changes the boxes of the current image; chosen: which of them from then on.
    change(boxes, chosen = -1, labelled = true) {
      const frame = current();
      if (!frame) return;
      past.push({ id: frame.id, before: copy(frame.boxes), was: frame.labelled, after: copy(boxes), is: labelled });
      past.splice(0, past.length - MOST);
      future.length = 0;
      state.hint = "";
      if (boxes.length !== frame.boxes.length) state.picked = false;
      put(frame, boxes, labelled);
      state.chosen = chosen;
      tell();
    },
    undo: () => step(past, future, (one) => [one.before, one.was]),
    redo: () => step(future, past, (one) => [one.after, one.is]),
    canUndo: () => past.length > 0,
    canRedo: () => future.length > 0,
    go(place) {
      const next = Math.max(0, Math.min(place, state.frames.length - 1));
      if (next === state.at && state.frames.length) return;
      state.at = next;
      state.chosen = -1;
      state.hint = "";
      state.proposals = [];
      tell("frame");
    },
    choose(row) {
      state.hint = "";
      state.chosen = row;
      state.picked = true;
      const box = current()?.boxes[row];
      if (box) state.name = box.name;
      tell();
    },
    // Chooses a class, for the next boxes; a box that somebody picked becomes one of it. The one made
    // last keeps its own and is let go: who takes another class then means the next box.
    call(name) {
      state.name = name;
      const frame = current();
      if (!state.picked) {
        const last = frame?.boxes[state.chosen]?.name;
        state.hint = last && last !== name ? `Next box: ${name}. To rename a box, click it first.` : "";
        state.chosen = -1;
      }
      if (frame && state.chosen >= 0 && frame.boxes[state.chosen].name !== name) {
        this.change(frame.boxes.map((box, row) => (row === state.chosen ? { ...box, name } : box)), state.chosen);
      } else tell();
    },
    addClass(text) {
      const name = tidy(text);
      if (!name) return null;
      if (!known(name)) state.classes.push(name);
      return known(name);
    },
    // Everywhere, so that what is taken back has the new name, too: that name, or null where another
    // class has it.
    renameClass(before, text) {
      const after = tidy(text);
      if (![before, undefined].includes(known(after))) return null;
      state.classes = state.classes.map((one) => (one === before ? after : one));
      const lists = [...state.frames.map((frame) => frame.boxes), ...[...past, ...future].flatMap((one) => [one.before, one.after])];
      for (const box of lists.flat()) if (box.name === before) box.name = after;
      if (state.name === before) state.name = after;
      return after;
    },
    // Removes an image and its undo entries; a person who is at another image stays there.
    drop(frame) {
      const now = current();
      for (const list of [past, future]) list.splice(0, list.length, ...list.filter((one) => one.id !== frame.id));
      const place = state.frames.indexOf(frame);
      state.frames.splice(place, 1);
      const at = now === frame ? place : state.frames.indexOf(now);
      state.at = Math.max(0, Math.min(at, state.frames.length - 1));
      if (now !== frame) return tell();
      state.chosen = -1;
      tell("frame");
    },
  };
}
