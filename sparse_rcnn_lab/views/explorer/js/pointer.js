// Mouse, pen and finger on the image: hover shows, a click chooses, a drag edits.

const WANDER = 8; // pixels that a click may wander

export function listenToPointer(explorer, picture) {
  const { store } = explorer;
  const { canvas } = picture;
  let pressed = null; // where
  let before = null; // what the last click found, to walk through boxes that lie on each other

  const place = (event) => {
    const bounds = canvas.getBoundingClientRect();
    return [event.clientX - bounds.left, event.clientY - bounds.top];
  };

  canvas.addEventListener("pointermove", (event) => {
    if (!event.isPrimary) return; // a second finger
    const at = place(event);
    if (explorer.editing?.move(picture, at)) return;
    if (event.pointerType === "touch") return;
    const row = picture.rowsAt(...at)[0];
    const id = row === undefined ? null : picture.trace.ids[row];
    store.set({ hovered: id, peeked: id });
    canvas.style.cursor = explorer.editing?.cursor(picture, at) ?? (row === undefined ? "default" : "pointer");
  });

  canvas.addEventListener("pointerleave", () => store.set({ hovered: null, peeked: null }));

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !event.isPrimary) return;
    pressed = place(event);
    if (explorer.editing?.take(picture, pressed)) {
      canvas.setPointerCapture(event.pointerId);
      event.preventDefault();
      canvas.focus({ preventScroll: true });
    }
  });

  // A finger scrolls and zooms the page, but not with a box in hand.
  canvas.addEventListener("touchstart", (event) => { if (explorer.editing?.held()) event.preventDefault(); }, { passive: false });

  canvas.addEventListener("pointercancel", (event) => { if (event.isPrimary) explorer.editing?.release(picture); });

  canvas.addEventListener("pointerup", (event) => {
    if (event.button !== 0 || !event.isPrimary) return; // the right button opens the browser's menu
    if (explorer.editing?.release(picture)) return;
    // A drag that could not be, after the last stage or without a kernel, chooses nothing else.
    const [x, y] = place(event);
    const still = pressed && Math.hypot(x - pressed[0], y - pressed[1]) <= WANDER;
    pressed = null;
    if (!still) return;
    const rows = picture.rowsAt(x, y);
    const found = rows.join();
    const chosen = picture.trace.row(store.state.chosen);
    const next = found === before ? rows.indexOf(chosen) + 1 : 0;
    before = found;
    explorer.choose(rows.length ? picture.trace.ids[rows[next % rows.length]] : null);
  });
}
