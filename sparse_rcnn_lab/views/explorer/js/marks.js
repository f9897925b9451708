// Drawing on the image: every line has a dark rim, so that it is visible on bright and on dark.

import { css, textOn } from "./colors.js";
import { placeLabels } from "./labels.js";

const RIM = [20, 23, 28]; // style.DARK
const RIM_SHARE = 0.7; // style.EDGE
export const MOST_WAYS = 60; // more trails hide the image

export function strokeBox(context, box, color, width, alpha = 1, dash = null) {
  const [x, y, w, h] = [box[0], box[1], box[2] - box[0], box[3] - box[1]];
  if (dash) context.setLineDash(dash);
  if (alpha > 0.4) { // the rim of a faint line would be all that is seen
    context.strokeStyle = css(RIM, alpha * RIM_SHARE);
    context.lineWidth = width + 1.6;
    context.strokeRect(x, y, w, h);
  }
  context.strokeStyle = css(color, alpha);
  context.lineWidth = width;
  context.strokeRect(x, y, w, h);
  if (dash) context.setLineDash([]);
}

export function strokeLine(context, points, color, width, alpha = 1) {
  if (points.length < 2) return;
  context.beginPath();
  points.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
  context.lineJoin = "round";
  context.lineCap = "round";
  context.strokeStyle = css(RIM, alpha * RIM_SHARE);
  context.lineWidth = width + 1.8;
  context.stroke();
  context.strokeStyle = css(color, alpha);
  context.lineWidth = width;
  context.stroke();
}

// A path through the states, each part in the colour of the stage it leads to.
// The rim is fainter than a box's, as it would hide thin lines.
export function strokeWay(context, points, colorOf, width, alpha = 1) {
  strokeLine(context, points, RIM, width, alpha * 0.25);
  for (let i = 1; i < points.length; i++) {
    context.beginPath();
    context.moveTo(...points[i - 1]);
    context.lineTo(...points[i]);
    context.strokeStyle = css(colorOf(i), alpha);
    context.lineWidth = width;
    context.stroke();
  }
}

export function dot(context, [x, y], radius, color, alpha = 1) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fillStyle = css(color, alpha);
  context.fill();
  context.strokeStyle = css(RIM, alpha * 0.8);
  context.lineWidth = 1;
  context.stroke();
}

export function handle(context, [x, y], color) {
  context.fillStyle = "#ffffff";
  context.strokeStyle = css(color);
  context.lineWidth = 2;
  context.fillRect(x - 4.5, y - 4.5, 9, 9);
  context.strokeRect(x - 4.5, y - 4.5, 9, 9);
}

export const FONT = '600 12px system-ui, "Segoe UI", Roboto, sans-serif';
const HIGH = 18;

// labels: [{box, text, color}], best first. Returns where they went, for tests.
export function drawLabels(context, labels, frame, alpha = 1) {
  context.font = FONT;
  context.textBaseline = "middle";
  const room = frame[2] - frame[0];
  const wanted = labels.map(({ box, text, color }) => {
    const short = shorten(context, text, room - 12);
    return { box, color, text: short, width: Math.ceil(context.measureText(short).width) + 10, height: HIGH };
  });
  const places = placeLabels(wanted, frame);
  const drawn = [];
  places.forEach((place, i) => {
    if (!place) return;
    const { text, color, width } = wanted[i];
    context.globalAlpha = alpha;
    context.fillStyle = css(color);
    context.beginPath();
    context.roundRect(place[0], place[1], width, HIGH, 3);
    context.fill();
    context.fillStyle = textOn(color);
    context.fillText(text, place[0] + 5, place[1] + HIGH / 2 + 0.5);
    context.globalAlpha = 1;
    drawn.push({ text, x: place[0], y: place[1], width, height: HIGH });
  });
  return drawn;
}

function shorten(context, text, room) {
  if (context.measureText(text).width <= room) return text;
  let kept = text;
  while (kept.length > 1 && context.measureText(`${kept}…`).width > room) kept = kept.slice(0, -1);
  return `${kept}…`;
}

// The bins of RoI pooling on a box; `map` (values 0..1, row by row) shades them.
export function drawGrid(context, box, side, map, shade) {
  const [w, h] = [(box[2] - box[0]) / side, (box[3] - box[1]) / side];
  if (map) {
    map.forEach((value, i) => {
      context.fillStyle = shade(value);
      context.fillRect(box[0] + (i % side) * w, box[1] + Math.floor(i / side) * h, w, h);
    });
  }
  for (const [color, width] of [["rgba(20,23,28,.55)", 2.2], ["rgba(255,255,255,.85)", 0.9]]) {
    context.strokeStyle = color;
    context.lineWidth = width;
    context.beginPath();
    for (let i = 0; i <= side; i++) {
      context.moveTo(box[0] + i * w, box[1]);
      context.lineTo(box[0] + i * w, box[3]);
      context.moveTo(box[0], box[1] + i * h);
      context.lineTo(box[2], box[1] + i * h);
    }
    context.stroke();
  }
}
