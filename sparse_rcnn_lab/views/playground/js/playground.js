// The page: its sources of images, and what it shows of them.

import { make, setText } from "./dom.js";
import { lacking, openEngine } from "./engine.js";
import { render } from "./explorer.js";
import { createLive } from "./live.js";
import { createPad } from "./pad.js";

const about = JSON.parse(document.getElementById("about").textContent);
const kept = { count: about.num_proposals, stage: about.stages, threshold: 0.3 };
const place = document.getElementById("view");
const status = document.getElementById("status");
let engine = null;
let close = null; // takes down what is shown
let busy = false;
const KNOWN = 8; // classes that are named
const told = (text) => setText(document.getElementById("told"), text);
const tour = make("button", { type: "button", text: "Tour", title: "Six steps through what the detector does", hidden: "", onclick: () => document.getElementById("explorer").explorer.tour.start() });

function tell(text, kind = "") {
  status.hidden = !text;
  status.className = kind;
  setText(status, text);
}

function show(...elements) {
  close?.();
  close = null;
  place.replaceChildren(...elements);
}

// what: "explore", "draw" or "camera".
function shown(what) {
  document.body.dataset.ready = what;
  tour.hidden = what !== "explore";
  for (const one of document.querySelectorAll("[data-shows]")) one.setAttribute("aria-pressed", String(one.dataset.shows === what));
  tell("");
}

// source: a Blob, or an ImageBitmap, which goes over to the worker.
async function explore(source) {
  if (busy || !engine) return;
  busy = true;
  document.body.classList.add("busy");
  const wait = setTimeout(() => tell("Detecting…"), 250);
  try {
    const { payload, milliseconds } = await engine.ask({ image: source }, source instanceof Blob ? [] : [source]);
    const image = URL.createObjectURL(payload.image);
    const options = {
      threshold: kept.threshold, color: kept.color, tab: kept.tab, show: kept.show === "one" ? "all" : kept.show,
      theme: "auto", needs: "", overlap_bias: about.overlap > 0, above: document.getElementById("top").offsetHeight + 30,
    };
    const values = { payload: { ...payload, image }, options };
    const model = {
      get: (name) => values[name],
      set(name, value) { if (name !== "chosen" && name !== "stage") kept[name] = value; },
      save_changes() {},
      link: { run: ({ intervention }) => engine.ask({ run: intervention }) },
    };
    const el = make("div", { id: "explorer" });
    show(el);
    const down = render({ model, el, keys: document });
    close = () => {
      down();
      URL.revokeObjectURL(image);
    };
    const found = el.explorer.ends(el.explorer.base(), kept.threshold).size;
    clearTimeout(wait);
    shown("explore");
    told(`${found} of ${about.num_proposals} proposals end as detections · ${Math.round(milliseconds)} ms in this browser`);
  } catch (error) {
    tell(error.message, "problem");
  }
  clearTimeout(wait);
  busy = false;
  document.body.classList.remove("busy");
}

function live(settings) {
  const one = createLive({
    engine, about, kept, explore, failed: (error) => tell(error.message, "problem"), ...settings,
  });
  told("");
  return one;
}

function draw() {
  const pad = createPad();
  let last = { ...kept };
  const changed = () => {
    const other = Object.keys(last).some((key) => last[key] !== kept[key]);
    last = { ...kept };
    return other;
  };
  const one = live({
    source: () => (changed() ? (pad.fresh(), pad.canvas) : pad.fresh()), below: pad.canvas, words: "What was found in the drawing",
    still: () => pad.canvas,
  });
  show(pad.tools, one.element);
  close = one.stop;
  one.start();
  told(`Draw what the model knows: ${about.class_names.slice(0, KNOWN).join(", ")}${about.class_names.length > KNOWN ? ", …" : "."}`);
  shown("draw");
}

async function camera() {
  const video = make("video", { muted: "", playsinline: "" });
  video.muted = true;
  let stream;
  try {
    if (!navigator.mediaDevices?.getUserMedia) throw new Error("none");
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 640 }, height: { ideal: 480 }, facingMode: "environment" } });
  } catch (error) {
    const why = {
      NotAllowedError: "The camera was not allowed. Allow it beside the page's address, and try again.",
      NotFoundError: "This machine has no camera that the browser can see. Open a photograph instead.",
      NotReadableError: "The camera is used by another program. Close that one, and try again.",
    }[error.name];
    tell(why ?? "This browser does not allow a camera here; it does over https, on localhost, and mostly from disk. Open a photograph instead.", "problem");
    return;
  }
  video.srcObject = stream;
  await video.play();
  const one = live({ source: () => (video.readyState >= 2 ? video : null), words: "The camera's image with what was found in it" });
  show(one.element);
  close = () => {
    one.stop();
    stream.getTracks().forEach((track) => track.stop());
  };
  stream.getVideoTracks()[0].onended = () => {
    one.stop();
    tell("The camera was disconnected. Connect it, and try again.", "problem");
  };
  one.start();
  shown("camera");
  globalThis.playground.live = one;
}

function sources() {
  const file = make("input", { type: "file", accept: "image/*", hidden: "", onchange: () => { if (file.files[0]) explore(file.files[0]); file.value = ""; } });
  const button = (text, title, action, more = {}) => make("button", { type: "button", text, title, onclick: action, ...more });
  const examples = about.examples.map(({ name, data }) => make("button", { type: "button", class: "play-example", title: `Example: ${name}`, "aria-label": `Example: ${name}`, onclick: () => explore(fromUri(data)) },
    make("img", { src: data, alt: "" })));
  document.getElementById("sources").append(
    button("Open a photograph", "From this machine; it is not sent anywhere. Or drop one on the page, or paste it", () => file.click()), file,
    button("Camera", "Detect in what the camera sees", camera, { "data-shows": "camera" }), button("Draw", "Draw something, and see what is found while you draw", draw, { "data-shows": "draw" }), tour, ...examples);
  const drop = (event) => {
    event.preventDefault();
    document.body.classList.remove("over");
    const found = [...(event.dataTransfer ?? event.clipboardData).files].find((one) => one.type.startsWith("image/") || !one.type);
    if (found) explore(found);
    else if (event.type === "drop") tell("That is not an image. Drop a photograph: JPEG, PNG, WebP.", "problem");
  };
  addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("over");
  });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("over"); });
  addEventListener("drop", drop);
  addEventListener("paste", (event) => { if (event.clipboardData?.files.length) drop(event); });
}

function fromUri(uri) {
  const [head, data] = uri.split(",");
  return new Blob([Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0))], { type: head.slice(5).split(";")[0] });
}

async function begin() {
  const without = lacking();
  if (without) return tell(without, "problem");
  tell("Unpacking the detector…");
  try {
    engine = await openEngine(about, (share) => tell(`Opening the detector… ${Math.round(share * 100)} %`));
  } catch (error) {
    return tell(`The detector could not be opened: ${error.message}`, "problem");
  }
  globalThis.playground = { engine, explore, kept }; // for tests and the curious
  sources();
  if (about.examples.length) await explore(fromUri(about.examples[0].data));
  else draw();
}

begin();
