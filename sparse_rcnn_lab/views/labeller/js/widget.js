// The labeller in a notebook: boxes go to the kernel, whose answer means that they are saved.

import { createLabeller } from "./labeller.js";

export function render({ model, el }) {
  const waiting = new Map();
  let serial = 0;
  let closed = false;
  const ask = (content) => new Promise((done, failed) => {
    const own = ++serial;
    waiting.set(own, [done, failed]);
    try {
      model.send({ ...content, serial: own });
    } catch (error) {
      if (!closed) throw error;
    }
    if (closed) done();
    setTimeout(() => { if (waiting.delete(own)) failed(new Error("The kernel does not answer.")); }, 60_000);
  });
  const heard = (content) => {
    const [done, failed] = waiting.get(content.serial) ?? [];
    waiting.delete(content.serial);
    if (content.error) failed?.(Object.assign(new Error(content.error), { refused: true }));
    else done?.(content.answer);
  };
  model.on("msg:custom", heard);
  const labeller = createLabeller(el, {
    frames: model.get("frames"), // itself: where it is shown again, it has what was drawn here
    classes: model.get("classes"), colors: model.get("colors"), theme: model.get("theme"),
    save: (frame) => ask({ kind: "label", id: frame.id, boxes: frame.boxes, labelled: frame.labelled }),
    propose: model.get("proposes") ? (frame) => ask({ kind: "propose", id: frame.id }) : null,
    rename: (names, renamed) => ask({ kind: "classes", names, renamed }),
  });
  return () => {
    // The kernel has what was sent. Its answer would be lost, and sending it again would overwrite
    // what the next view has drawn since.
    closed = true;
    waiting.forEach(([done]) => done());
    waiting.clear();
    model.off("msg:custom", heard);
    labeller.destroy();
  };
}

export default { render };
