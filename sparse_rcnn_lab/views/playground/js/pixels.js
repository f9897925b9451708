// Prepares an image for the model with exactly the numbers of detect/images.py: resizing is done in
// integers, as in torch and OpenCV.

export function resizedSize(height, width, { short_side, long_side }) {
  const scale = Math.min(short_side / Math.min(height, width), long_side / Math.max(height, width));
  return [height, width].map((side) => Math.max(1, Math.floor(side * scale + 0.5)));
}

// image: {width, height, data}, RGBA bytes, opaque -> the same, resized.
export function resized(image, [height, width], antialias) {
  if (image.height === height && image.width === width) return image;
  return (antialias ? filtered : asOpenCV)(image, height, width);
}

// Bilinear with antialias, along the rows first. Weights are whole numbers of as many bits as 16
// hold, and every pass ends in bytes.
function filtered({ width: fullWidth, height: fullHeight, data }, height, width) {
  let source = data;
  if (fullWidth !== width) {
    source = along(source, weightsOf(fullWidth, width), fullHeight, fullWidth * 4, 4, width * 4, 4);
  }
  if (fullHeight !== height) {
    source = along(source, weightsOf(fullHeight, height), width, 4, width * 4, 4, width * 4);
  }
  return { width, height, data: source };
}

// lines: how many are filtered; lineIn, stepIn: bytes to the next line and the next pixel of it.
function along(source, { first, count, weights, most, bits }, lines, lineIn, stepIn, lineOut, stepOut) {
  const out = new Uint8ClampedArray(lines * first.length * 4).fill(255);
  const half = 1 << (bits - 1);
  for (let line = 0; line < lines; line++) {
    for (let i = 0; i < first.length; i++) {
      let [r, g, b] = [half, half, half];
      let at = line * lineIn + first[i] * stepIn;
      for (let k = i * most; k < i * most + count[i]; k++, at += stepIn) {
        const weight = weights[k];
        r += weight * source[at];
        g += weight * source[at + 1];
        b += weight * source[at + 2];
      }
      const to = line * lineOut + i * stepOut;
      out[to] = r >> bits;
      out[to + 1] = g >> bits;
      out[to + 2] = b >> bits;
    }
  }
  return out;
}

function weightsOf(length, wanted) {
  const scale = length / wanted;
  const support = Math.max(scale, 1);
  const most = Math.ceil(support) * 2 + 1;
  const first = new Int32Array(wanted);
  const count = new Int32Array(wanted);
  const exact = new Float64Array(wanted * most);
  let largest = 0;
  for (let i = 0; i < wanted; i++) {
    const centre = scale * (i + 0.5);
    first[i] = Math.max(Math.trunc(centre - support + 0.5), 0);
    count[i] = Math.min(Math.max(Math.min(Math.trunc(centre + support + 0.5), length) - first[i], 0), most);
    let total = 0;
    for (let j = 0; j < count[i]; j++) {
      const away = Math.abs((j + first[i] - centre + 0.5) / support);
      exact[i * most + j] = away < 1 ? 1 - away : 0;
      total += exact[i * most + j];
    }
    for (let j = 0; j < count[i]; j++) {
      if (total) exact[i * most + j] /= total;
      largest = Math.max(largest, exact[i * most + j]);
    }
  }
  let bits = 0;
  while (bits < 22 && 0.5 + largest * (1 << (bits + 1)) < 1 << 15) bits += 1;
  const weights = Int32Array.from(exact, (weight) => Math.trunc(0.5 + weight * (1 << bits)));
  return { first, count, weights, most, bits };
}

// cv2.INTER_LINEAR on bytes: see resize_as_opencv in detect/images.py.
function asOpenCV({ width: fullWidth, height: fullHeight, data }, height, width) {
  const columns = openCVWeights(fullWidth, width);
  const rows = openCVWeights(fullHeight, height);
  const lines = new Map(); // those of the image that are still needed
  const lineAt = (y) => {
    const row = Math.max(0, Math.min(y, fullHeight - 1));
    if (!lines.has(row)) {
      const line = new Int32Array(width * 3);
      for (let x = 0; x < width; x++) {
        const here = (row * fullWidth + Math.max(0, Math.min(columns.before[x], fullWidth - 1))) * 4;
        const there = (row * fullWidth + Math.max(0, Math.min(columns.before[x] + 1, fullWidth - 1))) * 4;
        for (let c = 0; c < 3; c++) {
          line[x * 3 + c] = ((data[here + c] << 11) + (data[there + c] - data[here + c]) * columns.weight[x]) >> 4;
        }
      }
      if (lines.size > 3) lines.delete(lines.keys().next().value);
      lines.set(row, line);
    }
    return lines.get(row);
  };
  const out = new Uint8ClampedArray(width * height * 4).fill(255);
  for (let y = 0; y < height; y++) {
    const [upper, under, weight] = [lineAt(rows.before[y]), lineAt(rows.before[y] + 1), rows.weight[y]];
    for (let x = 0; x < width; x++) {
      for (let c = 0; c < 3; c++) {
        const at = x * 3 + c;
        out[(y * width + x) * 4 + c] = (((upper[at] * (2048 - weight)) >> 16) + ((under[at] * weight) >> 16) + 2) >> 2;
      }
    }
  }
  return { width, height, data: out };
}

function openCVWeights(length, wanted) {
  const scale = 1 / (wanted / length);
  const before = new Int32Array(wanted);
  const weight = new Int32Array(wanted);
  for (let i = 0; i < wanted; i++) {
    const position = Math.fround((i + 0.5) * scale - 0.5);
    before[i] = Math.floor(position);
    weight[i] = halfToEven(Math.fround(Math.fround(position - before[i]) * 2048));
  }
  return { before, weight };
}

export function halfToEven(value) {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 ? rounded - 1 : rounded;
}

// RGBA bytes -> {data: float32 planes [3, H, W], height, width}, normalised; zeros pad the right
// and the bottom up to a multiple.
export function normalised({ width, height, data }, { mean, std, multiple }) {
  const [tall, wide] = [height, width].map((side) => Math.ceil(side / multiple) * multiple);
  const planes = new Float32Array(3 * tall * wide);
  for (let c = 0; c < 3; c++) {
    const [middle, spread] = [Math.fround(mean[c]), Math.fround(std[c])];
    const known = Float32Array.from({ length: 256 }, (_, value) => Math.fround(value - middle) / spread);
    for (let y = 0; y < height; y++) {
      let to = (c * tall + y) * wide;
      for (let at = y * width * 4 + c, end = at + width * 4; at < end; at += 4) planes[to++] = known[data[at]];
    }
  }
  return { data: planes, height: tall, width: wide };
}
