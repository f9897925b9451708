// Positions of labels: touching their box, inside the image, never overlapping. Better detections
// choose first; where no place is free there is no label.

export function placeLabels(wanted, frame, gap = 2) {
  const taken = [];
  return wanted.map(({ box, width, height }) => {
    const free = candidates(box, width, height, frame).find(([x, y]) => taken.every((other) => (
      x >= other[2] + gap || x + width <= other[0] - gap
      || y >= other[3] + gap || y + height <= other[1] - gap
    )));
    if (!free || width > frame[2] - frame[0]) return null;
    taken.push([free[0], free[1], free[0] + width, free[1] + height]);
    return free;
  });
}

// Top left corners to try, best first: above, inside at the top, below, inside at the bottom,
// each shifted along the edge; then right and left; then further out.
function candidates(box, width, height, frame) {
  const x1 = Math.max(frame[0], Math.min(box[0], frame[2]));
  const x2 = Math.max(frame[0], Math.min(box[2], frame[2]));
  const y1 = Math.max(frame[1], Math.min(box[1], frame[3]));
  const y2 = Math.max(frame[1], Math.min(box[3], frame[3]));
  const roomy = y2 - y1 > 3 * height && x2 - x1 > width;
  const rows = roomy ? [y1 - height, y1, y2, y2 - height] : [y1 - height, y2, y1, y2 - height];
  const columns = shifts(x1, Math.max(x1, x2 - width), width / 4);
  const found = rows.flatMap((y) => columns.map((x) => [x, y]));
  const sides = shifts(y1, Math.max(y1, y2 - height), height / 2);
  found.push(...[x2, x1 - width].flatMap((x) => sides.map((y) => [x, y])));
  for (let out = 1; out <= 3; out++) {
    found.push(...[y1 - height * (1 + out), y2 + height * out].flatMap((y) => columns.map((x) => [x, y])));
  }
  return found.map(([x, y]) => [
    Math.round(Math.max(frame[0], Math.min(x, frame[2] - width))),
    Math.round(Math.max(frame[1], Math.min(y, frame[3] - height))),
  ]);
}

function shifts(first, last, step) {
  const count = Math.min(Math.ceil((last - first) / Math.max(step, 1)), 12);
  return Array.from({ length: count + 1 }, (_, i) => first + ((last - first) * i) / Math.max(count, 1));
}
