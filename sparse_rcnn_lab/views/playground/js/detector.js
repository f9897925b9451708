// The exported graphs behind the model's two calls, pyramid and stage (core/model.py), in
// onnxruntime-web. Boxes are xyxy in input pixels, all numbers float32.

import { normalised, resized, resizedSize } from "./pixels.js";

const FINEST_SCALE = 56;
const COARSEST = 3;
// More optimising takes a second longer to open and runs no faster.
const OPENED = { executionProviders: ["wasm"], graphOptimizationLevel: "basic" };

// about: the model's data from playground_page.py; graphs: name -> input of `unpacked`.
export async function openDetector(ort, about, graphs, unpacked, progress) {
  const open = {};
  const names = Object.keys(graphs);
  for (const [i, name] of names.entries()) {
    progress(i / names.length);
    open[name] = await ort.InferenceSession.create(await unpacked(graphs[name]), OPENED);
    delete graphs[name];
  }
  const tensor = (data, dims) => new ort.Tensor("float32", data, dims);
  const { dim, heads, roi_size: side } = about;
  const SHORT = ["refined_boxes", "logits", "refined_features"];
  const FULL = [...SHORT, "attention", "roi", "filtered"];

  return {
    about,
    // image: {width, height, data} RGBA -> what the stages share, and the factors from the image's
    // own pixels to the model's.
    async pyramid(image) {
      const size = resizedSize(image.height, image.width, about.input);
      const input = normalised(resized(image, size, about.input.antialias), about.input);
      const images = tensor(input.data, [1, 3, input.height, input.width]);
      const { table, levels } = await open.pyramid.run({ images });
      const scale = [size[1] / image.width, size[0] / image.height].map(Math.fround);
      return { table, levels, size, scale };
    },

    // The first `count` learned proposals for an input of `size` (height, width).
    proposals([height, width], count) {
      const whwh = [width, height, width, height];
      return {
        boxes: about.boxes.slice(0, count * 4).map((value, i) => value * whwh[i % 4]),
        features: about.features.slice(0, count * dim),
      };
    },

    // entering: the state before, of which it takes boxes and confidence.  asked: rows of features
    // that the stage is run for, whose boxes are given and whose output comes back.  switches: {attend, headsOn, exchange, overlapBias}, see onnx_graphs.py.  full: with all that
    // the explorer shows of a stage; attention is that of all proposals.
    async stage(index, { table, levels }, { boxes, logits }, features, asked, switches, full) {
      const [n, all] = [asked.length, features.length / dim];
      const given = {
        table, levels, boxes: tensor(boxes, [1, n, 4]), features: tensor(features, [1, all, dim]),
        attend: tensor(switches.attend, [1]), heads_on: tensor(switches.headsOn, [heads]),
        exchange: tensor(switches.exchange, [n, n]), asked: new ort.Tensor("int32", Int32Array.from(asked), [n]),
      };
      // With equal confidence no proposal attends more to another.
      const sure = logits && switches.overlapBias ? largest(logits, n) : new Float32Array(n);
      if (about.overlap && index) given.confidence = tensor(sure, [1, n]);
      const found = await open[`stage_${index + 1}`].run(given, full ? FULL : SHORT);
      const output = {
        boxes: found.refined_boxes.data, logits: found.logits.data, features: found.refined_features.data,
      };
      if (full) {
        output.levels = levelsOf(boxes);
        output.attention = meanOverHeads(found.attention.data, heads, all, switches.attend[0]);
        output.roi = contrast(found.roi.data, n, side ** 2, dim);
        output.filtered = contrast(found.filtered.data, n, side ** 2, dim);
      }
      return output;
    },
  };
}

// The largest of each of n rows.
function largest(values, n) {
  const width = values.length / n;
  return Float32Array.from({ length: n }, (_, row) => Math.max(...values.subarray(row * width, (row + 1) * width)));
}

// As assign_levels of core/pooling.py: 0 for p2 to 3 for p5.
function levelsOf(boxes) {
  return Uint8Array.from({ length: boxes.length / 4 }, (_, i) => {
    const area = Math.fround(Math.fround(boxes[i * 4 + 2] - boxes[i * 4]) * Math.fround(boxes[i * 4 + 3] - boxes[i * 4 + 1]));
    const level = Math.floor(Math.log2(Math.fround(Math.fround(Math.sqrt(Math.max(area, 0))) / FINEST_SCALE) + 1e-6));
    return Math.max(0, Math.min(Number.isNaN(level) ? 0 : level, COARSEST));
  });
}

function meanOverHeads(attention, heads, n, attend) {
  const mean = new Float32Array(n * n);
  for (let i = 0; attend && i < attention.length; i++) mean[i % mean.length] += attention[i] / heads;
  return mean;
}

// The distance of each bin's feature from the mean of its RoI: how much it stands out.
function contrast(features, n, bins, dim) {
  const away = new Float32Array(n * bins);
  const mean = new Float64Array(dim);
  for (let row = 0, to = 0; row < n; row++) {
    const start = row * bins * dim;
    mean.fill(0);
    for (let bin = 0, at = start; bin < bins; bin++) for (let d = 0; d < dim; d++) mean[d] += features[at++];
    for (let d = 0; d < dim; d++) mean[d] /= bins;
    for (let bin = 0, at = start; bin < bins; bin++) {
      let sum = 0;
      for (let d = 0; d < dim; d++) {
        const apart = features[at++] - mean[d];
        sum += apart * apart;
      }
      away[to++] = Math.sqrt(sum) || 0;
    }
  }
  return away;
}
