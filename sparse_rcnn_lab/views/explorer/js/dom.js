// Small helpers for elements. Text is only ever set as text: a class name may hold anything.

export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name === "class") element.className = value;
    else if (name === "text") element.textContent = value;
    else if (name === "style") Object.assign(element.style, value);
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Sizes a canvas to `width` x `height` CSS pixels sharply; returns a context in CSS pixels.
export function sharp(canvas, width, height) {
  const ratio = Math.min(globalThis.devicePixelRatio || 1, 2.5);
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w;
    canvas.height = h;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return context;
}

// A choice among a few values, as a row of buttons.
export function segments(label, choices, help, choose) {
  const buttons = choices.map(([value, words]) => make("button", {
    type: "button", text: words, title: help[value] ?? null, onclick: () => choose(value),
  }));
  const element = make("div", { class: "srl-segments", role: "group", "aria-label": label }, ...buttons);
  return {
    element,
    mark(value) {
      choices.forEach(([own], i) => buttons[i].setAttribute("aria-pressed", String(own === value)));
    },
  };
}
