// The colour of a box: a person chooses what it shows; its strength comes from the score.

const MATCH = { matched: [0, 158, 115], spare: [213, 94, 0], free: [154, 160, 166] };
// Dark violet to pale yellow: a scale of its own, so that it is not taken for the stages'.
const SCORE = [[88, 60, 140], [190, 60, 125], [240, 110, 80], [252, 180, 95], [252, 240, 170]];

export const parse = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
export const css = ([r, g, b], alpha = 1) => `rgba(${r | 0},${g | 0},${b | 0},${alpha})`;
export const mix = (a, b, share) => a.map((value, i) => value + (b[i] - value) * share);

export function ramp(colors, share) {
  const place = Math.max(0, Math.min(share, 1)) * (colors.length - 1);
  const low = Math.min(Math.floor(place), colors.length - 2);
  return mix(colors[low], colors[low + 1], place - low);
}

// Readable text on a background: dark or light, as views/style.py, whose colours these are:
// by WCAG contrast, which is equal at this luminance.
export function textOn(background) {
  const [r, g, b] = background.map((v) => {
    const part = v / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.198 ? "#14171c" : "#ffffff";
}

export function createColors(style) {
  const stages = style.stages.map(parse);
  const classes = style.classes.map(parse);
  const learned = parse(style.learnedLine);
  const proposals = new Map();

  function ofClass(label) { return label < 0 ? stages[0] : classes[label % classes.length]; }

  function ofProposal(id) {
    if (!proposals.has(id)) proposals.set(id, hue((id * 137.508) % 360)); // the golden angle
    return proposals.get(id);
  }

  function atState(trace, state, row, kind, start) {
    if (kind === "proposal") return ofProposal(trace.ids[row]);
    if (state < 1) return start;
    if (kind === "stage") return stages[Math.min(state, stages.length - 1)];
    if (kind === "score") return ramp(SCORE, trace.score(state, row));
    if (kind === "match") {
      if (trace.match(state, row) >= 0) return MATCH.matched;
      return (trace.iou(state, row) ?? 0) >= 0.5 ? MATCH.spare : MATCH.free;
    }
    return ofClass(trace.label(state, row));
  }

  return {
    stage: (state) => stages[Math.min(state, stages.length - 1)],
    ofClass,
    // The boxes of a stage on the image: the learned ones are lighter there.
    line: (state) => (state < 1 ? learned : stages[Math.min(state, stages.length - 1)]),
    learned,
    box(trace, position, row, kind, start = stages[0]) {
      const low = Math.min(Math.floor(position), trace.stages);
      const share = position - low;
      const a = atState(trace, low, row, kind, start);
      return share ? mix(a, atState(trace, Math.min(low + 1, trace.stages), row, kind, start), share) : a;
    },
    // What the colours mean: [[colour, words]], or a scale.
    legend(kind, trace, labels) {
      if (kind === "match") {
        return [[MATCH.matched, "matched"], [MATCH.spare, "IoU ≥ .5, not matched"], [MATCH.free, "free"]];
      }
      if (kind === "score") return [0, 0.25, 0.5, 0.75, 1].map((s) => [ramp(SCORE, s), s ? String(s).replace(/^0/, "") : "0"]);
      if (kind === "stage") return stages.map((color, i) => [color, String(i)]);
      if (kind === "proposal") return [];
      return labels.map((label) => [ofClass(label), trace.className(label)]);
    },
  };
}

function hue(degrees) {
  const part = (shift) => {
    const k = (shift + degrees / 30) % 12;
    return 255 * (0.62 - 0.35 * Math.max(-1, Math.min(k - 3, 9 - k, 1)));
  };
  return [part(0), part(8), part(4)];
}
