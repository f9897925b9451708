// Frame after frame through the detector, and what it finds drawn over it: for the camera and for
// the drawing pad. The controls are those of the explorer: proposals, stage, score.

import { createColors, css, textOn } from "./colors.js";
import { scoreText } from "./data.js";
import { make, setText } from "./dom.js";
import { placeLabels } from "./labels.js";

const LABEL = 14; // pixels of text, of a canvas as wide as it is shown
const FAINTEST = 0.45; // of a detection: it passed the threshold, so it must be seen

// source(): what to detect in now (something to draw, {width, height} of its pixels in `size()`),
// or null.  still(): the same at any time.  below: an element that shows it; without one the frames themselves are drawn.
export function createLive({ engine, about, kept, source, still = source, below, words, explore, failed }) {
  const colors = createColors(about.style);
  const canvas = make("canvas", { class: "play-live", "aria-label": words });
  const told = make("output", { class: "play-told" });
  const slider = (name, text, title, settings, shown) => {
    const value = make("output", {});
    const input = make("input", { type: "range", title, "aria-label": text, ...settings, oninput: () => {
      kept[name] = Number(input.value);
      setText(value, shown(kept[name]));
    } });
    input.value = String(kept[name]);
    setText(value, shown(kept[name]));
    return make("label", { title }, make("span", { text }), input, value);
  };
  const take = make("button", { type: "button", class: "play-main", text: "Explore this one", title: "Look into what the detector did with it, and change it", onclick: async () => {
    const now = still();
    if (now) explore(await createImageBitmap(now));
  } });
  const element = make("section", { class: "play-stage" },
    make("div", { class: "play-frame" }, below ?? null, canvas),
    make("div", { class: "play-controls" },
      slider("count", "proposals", "How many of the learned proposals are used, counted from the first", { min: 1, max: about.num_proposals, step: 1 }, String),
      slider("stage", "stage", "Stop after this stage; 0 shows the learned proposals", { min: 0, max: about.stages, step: 1 }, String),
      slider("threshold", "score ≥", "Lowest score of a detection", { min: 0.01, max: 0.99, step: 0.01 }, scoreText),
      told, take));
  let alive = false;
  let frames = 0;
  let pace = 0; // milliseconds between answers, smoothed

  function draw({ found, frame }) {
    const [width, height] = [frame.width, frame.height];
    const scale = Math.max(1, (canvas.clientWidth || width) * Math.min(devicePixelRatio, 2) / width);
    const [wide, tall] = [Math.round(width * scale), Math.round(height * scale)];
    if (canvas.width !== wide || canvas.height !== tall) Object.assign(canvas, { width: wide, height: tall });
    const g = canvas.getContext("2d");
    const unit = wide / (canvas.clientWidth || wide);
    g.clearRect(0, 0, wide, tall);
    if (!below) g.drawImage(frame, 0, 0, wide, tall);
    g.font = `600 ${LABEL * unit}px system-ui, sans-serif`;
    const many = found.filter(({ score }) => kept.stage === 0 || score >= kept.threshold);
    const marks = many.map(({ box, score, label }) => {
      const text = `${about.class_names[label]} ${scoreText(score)}`;
      return { box: box.map((v) => v * scale), color: colors.ofClass(label), score, text, width: g.measureText(text).width + 10 * unit, height: (LABEL + 6) * unit };
    });
    for (const { box: [x1, y1, x2, y2], color, score } of [...marks].reverse()) {
      const strength = FAINTEST + (1 - FAINTEST) * score;
      for (const [line, width] of [["rgba(20,23,28,.6)", 4], [css(color, strength), 2]]) {
        g.strokeStyle = line;
        g.lineWidth = width * unit;
        g.strokeRect(x1, y1, x2 - x1, y2 - y1);
      }
    }
    placeLabels(marks, [0, 0, wide, tall]).forEach((place, i) => {
      if (!place) return;
      const { color, text, width: w, height: h } = marks[i];
      g.fillStyle = css(color);
      g.fillRect(place[0], place[1], w, h);
      g.fillStyle = textOn(color);
      g.fillText(text, place[0] + 5 * unit, place[1] + h - 5 * unit);
    });
    return many.length;
  }

  async function loop() {
    let before = performance.now();
    while (alive) {
      await new Promise(requestAnimationFrame);
      const now = source();
      if (!now) continue;
      try {
        const frame = await createImageBitmap(now);
        const answer = await engine.ask({ frame, count: kept.count, stage: kept.stage }, [frame]);
        if (!alive) return answer.frame.close();
        const count = kept.stage ? draw(answer) : draw({ ...answer, found: [] });
        answer.frame.close();
        frames += 1;
        const passed = performance.now() - before;
        before += passed;
        pace = pace ? pace + (Math.min(passed, 2000) - pace) * 0.15 : passed;
        const rate = below ? "" : ` · ${(1000 / pace).toFixed(1)} frames/s`;
        setText(told, `${count} detection${count === 1 ? "" : "s"} · ${Math.round(answer.milliseconds)} ms${rate}`);
      } catch (error) {
        alive = false;
        failed(error);
      }
    }
  }

  return {
    element,
    get frames() { return frames; },
    start() { alive = true; loop(); },
    stop() { alive = false; },
  };
}
