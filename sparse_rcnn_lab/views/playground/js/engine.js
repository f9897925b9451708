// The page's side of worker.js: ask() sends a message and returns a promise of its answer.

const PARTS = "script[data-part]";

// Why this browser cannot run the page, a sentence, or "".
export function lacking() {
  const newer = "Open the page in a newer one: Chrome or Edge 94, Firefox 114, Safari 16.4, or later.";
  if (typeof WebAssembly === "undefined") return `This browser has no WebAssembly, or it is switched off. ${newer}`;
  // One function that makes a vector of zeros.
  const simd = Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11);
  if (!WebAssembly.validate(simd)) return `This browser's WebAssembly has no vector instructions (SIMD). ${newer}`;
  if (typeof DecompressionStream === "undefined") return `This browser cannot unpack the page (it has no DecompressionStream). ${newer}`;
  if (typeof OffscreenCanvas === "undefined") return `This browser cannot draw outside the page's own thread (it has no OffscreenCanvas). ${newer}`;
  return "";
}

export async function openEngine(about, progress) {
  const code = document.getElementById("worker").textContent;
  const worker = new Worker(URL.createObjectURL(new Blob([code], { type: "text/javascript" }))); // no module: from disk Chromium refuses one
  const open = new Map(); // serial -> {resolve, reject}
  let serial = 0;
  let dead = "";
  worker.onmessage = ({ data }) => {
    if (data.progress !== undefined) return progress(data.progress);
    const { resolve, reject } = open.get(data.serial);
    open.delete(data.serial);
    if (data.problem) reject(new Error(data.problem));
    else resolve(data);
  };
  worker.onerror = (event) => {
    event.preventDefault?.();
    dead = `The detector has stopped (${event.message || "no memory is left"}). Load the page again.`;
    for (const { reject } of open.values()) reject(Object.assign(new Error(dead), { lost: true }));
    open.clear();
  };
  const ask = (message, transfer = []) => new Promise((resolve, reject) => {
    if (dead) return reject(Object.assign(new Error(dead), { lost: true }));
    serial += 1;
    open.set(serial, { resolve, reject });
    worker.postMessage({ ...message, serial }, transfer);
  });
  const parts = {};
  for (const element of document.querySelectorAll(PARTS)) {
    parts[element.dataset.part] = element.textContent;
    element.remove(); // megabytes that nobody needs twice
  }
  await ask({ open: { about, parts } });
  return { ask };
}
