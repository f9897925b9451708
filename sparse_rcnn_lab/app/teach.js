// The tab Teach: show, box, train, use. The labeller is views/labeller; what is kept, teach_tab.py.

const values = window.labTeachValues;
const WANTED = 20; // images that are asked for
const POLL = 1000; // milliseconds between two looks at a training
const TAKE_GAP = 350; // milliseconds between two frames, where the key is held
const STEPS = [["show", "Show"], ["box", "Box"], ["train", "Train"], ["use", "Use"]];
const plural = (number, word) => `${number} ${word}${number === 1 ? "" : word.endsWith("x") ? "es" : "s"}`;
const clock = (seconds) => `${Math.floor(Math.round(seconds) / 60)}:${String(Math.round(seconds) % 60).padStart(2, "0")}`;
// A browser without storage refuses even to read it; then only the link leads back.
const stored = (act, ...token) => { try { return localStorage[act]("lab-teach", ...token); } catch { return null; } };

function createTeach(el) {
  // A proxy may have put the page below another path.
  const root = () => `${new URL(window.gradio_config.root, location.href).pathname.replace(/\/$/, "")}/lab/teach`;
  let token = new URLSearchParams(location.search).get("teach") ?? stored("getItem");
  let labeller = null, run = null, until = 0, taught = false, step = "show";
  let stream = null, taken = 0, watched = [], polling = null, busy = 0;

  async function ask(path, body, options = {}) {
    const address = `${root()}/${path}`;
    const json = body !== undefined && !(body instanceof Blob);
    let answer;
    try {
      answer = await fetch(address, body === undefined ? options : {
        method: "POST", body: json ? JSON.stringify(body) : body,
        headers: { "content-type": json ? "application/json" : body.type || "application/octet-stream" }, ...options,
      });
    } catch {
      throw new Error("The app does not answer. Is it still running?");
    }
    const name = /filename="(.+)"/.exec(answer.headers.get("content-disposition") ?? "")?.[1];
    if (answer.ok && name) return new File([await answer.blob()], name);
    const content = await answer.json().catch(() => ({}));
    if (!answer.ok) throw Object.assign(new Error(content.problem ?? `The app refused it (${answer.status}).`), { refused: answer.status < 500 && "problem" in content }); // else it is a proxy that says so
    return content;
  }

  let beginning = null; // several frames may be taken before the first answer
  async function begin() {
    if (token) return;
    beginning ??= ask("new", {}).finally(() => { beginning = null; });
    ({ token } = await beginning);
    remember();
  }
  function remember() {
    stored("setItem", token);
    link.value = `${location.origin}${location.pathname}?teach=${token}`;
  }

  // What is shown.
  const bar = make("ol", { class: "lab-steps" }, ...STEPS.map(([name, words], place) => make("li", {},
    make("button", { type: "button", id: `lab-step-${name}`, onclick: () => go(name) },
      make("b", { text: String(place + 1) }), make("span", { text: words }), make("small", { text: "" })))));
  const said = make("p", { class: "lab-teach-said", role: "status", hidden: "" });
  const panels = Object.fromEntries(STEPS.map(([name]) => [name, make("section", { class: `lab-panel lab-panel-${name}`, hidden: "" })]));
  const link = make("input", { type: "text", readonly: "", class: "lab-link", "aria-label": "Your link", onfocus: () => link.select() });
  const kept = make("span");
  const copy = make("button", { type: "button", text: "Copy", onclick: () => { link.select(); navigator.clipboard?.writeText(link.value); } });
  const anew = make("button", { type: "button", text: "Start over" });
  const foot = make("p", { class: "lab-foot", hidden: "" }, kept, link, copy, anew);
  el.replaceChildren(make("div", { class: "srl lab-teach" }, bar, said, ...Object.values(panels), foot));
  const shell = el.firstChild;

  function say(text, bad = false) {
    said.textContent = text;
    said.hidden = !text;
    said.classList.toggle("lab-bad", bad);
  }
  // An error is shown once, where everybody looks.
  const tried = (work) => async (...args) => {
    try {
      return await work(...args);
    } catch (error) {
      say(error.message, true);
      return undefined;
    }
  };

  // 1 Show.
  const video = make("video", { muted: "", playsinline: "", autoplay: "", class: "lab-teach-video" });
  video.muted = true;
  const flash = make("div", { class: "lab-flash" });
  const start = make("button", { type: "button", class: "lab-go", text: "Start the camera", onclick: () => startCamera() });
  const shoot = make("button", { type: "button", class: "lab-go", onclick: tried(take) }, "Take a frame", make("kbd", { class: "srl-named-key", text: "space" }));
  const halt = make("button", { type: "button", text: "Stop the camera", onclick: () => stopCamera() });
  const turn = make("button", { type: "button", text: "Other camera", hidden: "", onclick: () => { other(); stopCamera(); startCamera(); } });
  let facing = "environment"; // of a phone: what is shown to it
  let cameras = [], chosen = ""; // of those that do not say where they look
  const files = make("input", { type: "file", multiple: "", hidden: "", accept: "image/*,.zip,.json,.xml,.txt,.yaml", onchange: () => chose(files) });
  const folder = make("input", { type: "file", multiple: "", hidden: "", webkitdirectory: "", onchange: () => chose(folder) });
  const count = make("p", { class: "lab-count" });
  const toBox = make("button", { type: "button", text: "Go to Box", onclick: () => go("box") });
  const shots = make("div", { class: "srl-strip-of-images lab-shots" });
  const camera = make("div", { class: "lab-camera" }, video, flash, start,
    make("p", { text: "Show your things from several sides, near and far, in different places. Add a few frames without them." }));
  panels.show.append(camera,
    make("div", { class: "srl-bar" }, shoot, halt, turn,
      make("button", { type: "button", text: "Choose photographs or a zip", onclick: () => files.click() }),
      make("button", { type: "button", class: "lab-choose-folder", text: "Choose a folder", onclick: () => folder.click() }), files, folder),
    make("p", { class: "srl-note" }, make("span", { class: "lab-drop-note", text: "Or drop them on the page. " }),
      "Data that is labelled already will do too: a COCO, Pascal VOC or YOLO folder, or a zip of one. Everything stays on the machine that runs this app."),
    make("div", { class: "srl-bar" }, count, toBox), shots);

  function other() {
    const { deviceId, facingMode } = stream.getVideoTracks()[0].getSettings();
    if (facingMode) facing = facingMode === "user" ? "environment" : "user";
    else chosen = cameras[(cameras.indexOf(deviceId) + 1) % cameras.length];
  }

  let starting = false; // the browser is asked for it, and may be asking the visitor
  async function startCamera() {
    if (starting) return;
    starting = true;
    say("");
    let begun = null;
    try {
      if (!navigator.mediaDevices) throw { name: "Insecure" };
      const wanted = { width: { ideal: 640 }, height: { ideal: 480 }, ...(chosen ? { deviceId: { exact: chosen } } : { facingMode: facing }) };
      begun = await navigator.mediaDevices.getUserMedia({ video: wanted });
      if (step !== "show") return begun.getTracks().forEach((track) => track.stop()); // left meanwhile
      stream = begun;
      stream.getVideoTracks()[0].onended = () => {
        stopCamera();
        say("The camera was disconnected. The frames so far are kept.", true);
      };
      video.srcObject = stream;
      await video.play();
      const all = await navigator.mediaDevices.enumerateDevices();
      cameras = all.filter((device) => device.kind === "videoinput").map((device) => device.deviceId);
      turn.hidden = cameras.length < 2;
    } catch (error) {
      if (begun && stream !== begun) return; // it was stopped before its first frame
      chosen = "";
      stopCamera();
      say(error.name === "Insecure"
        ? "Browsers allow a camera only on pages of this machine or over https. Choose photographs instead."
        : lab.noCamera(error), true);
    } finally {
      starting = false;
    }
    show();
    if (stream) shoot.focus({ preventScroll: true });
  }
  function stopCamera() {
    stream?.getTracks().forEach((track) => { track.onended = null; track.stop(); });
    stream = null;
    video.srcObject = null;
    show();
  }

  const paper = document.createElement("canvas");
  async function take() {
    const now = performance.now();
    if (!stream || !video.videoWidth || now < taken + TAKE_GAP) return;
    taken = now;
    paper.width = video.videoWidth;
    paper.height = video.videoHeight;
    paper.getContext("2d").drawImage(video, 0, 0);
    flash.classList.remove("lab-lit");
    void flash.offsetWidth; // the animation begins again
    flash.classList.add("lab-lit");
    const blob = await new Promise((done) => paper.toBlob(done, "image/jpeg", 0.92));
    busy += 1;
    show();
    try {
      // A frame that could not be stored stays in memory and is sent again, unless it was refused.
      for (;;) {
        try {
          await begin();
          added(await ask(`${token}/frame`, blob));
          say("");
          return;
        } catch (error) {
          say(`${error.message} The frame is kept here and will be sent again.`, true);
          if (error.refused) throw error;
          await new Promise((done) => setTimeout(done, 1500));
        }
      }
    } finally {
      busy -= 1;
      show();
    }
  }

  function added(frame) {
    labeller.add({ ...frame, url: `${root()}/${frame.url}` }, labeller.state.frames.length === 0);
    show();
  }

  // One after the other: the first file removes what an earlier upload has left.
  let giving = Promise.resolve(), batches = 0;
  function give(all) {
    batches += 1;
    giving = giving.then(() => send(all)).finally(() => { batches -= 1; });
    return giving;
  }
  // Emptied, so that the same file can be chosen again.
  function chose(input) {
    const all = [...input.files];
    input.value = "";
    give(all);
  }
  const send = tried(async (given) => {
    const all = given.filter((file) => file.size > 0 && !file.name.startsWith("."));
    if (!all.length) throw new Error("No file was given.");
    await begin();
    for (const [place, file] of all.entries()) {
      say(`Sending ${place + 1} of ${all.length}: ${file.name}`);
      const name = file.relative ?? (file.webkitRelativePath || file.name);
      const query = new URLSearchParams(place ? { name } : { name, first: 1 });
      await ask(`${token}/upload?${query}`, new Blob([file], { type: "application/octet-stream" }));
    }
    say("Reading …");
    const before = labeller.state.frames.length;
    const state = await ask(`${token}/import`, {});
    build(state);
    const news = state.frames.length - before;
    say([`${plural(news, "image")} added${state.kind === "photographs" ? "" : `, with labels (${state.kind})`}.`, ...state.notes].join(" "));
  });

  // All files of a dropped folder.
  async function dropped(items) {
    const found = [];
    async function walk(entry, path) {
      if (entry.isFile) {
        const file = await new Promise((done, failed) => entry.file(done, failed));
        file.relative = `${path}${file.name}`;
        found.push(file);
      } else if (entry.isDirectory) {
        const reader = entry.createReader();
        for (;;) {
          const some = await new Promise((done, failed) => reader.readEntries(done, failed));
          if (!some.length) break;
          for (const one of some) await walk(one, `${path}${entry.name}/`);
        }
      }
    }
    for (const entry of items) await walk(entry, "");
    return found;
  }
  const hasFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  const mine = (event) => hasFiles(event) && el.checkVisibility();
  window.addEventListener("dragover", (event) => {
    if (!mine(event)) return;
    event.preventDefault();
    event.stopPropagation();
    shell.classList.add("lab-dropping");
  }, true);
  window.addEventListener("dragleave", (event) => { if (!event.relatedTarget) shell.classList.remove("lab-dropping"); }, true);
  window.addEventListener("drop", (event) => {
    if (!mine(event)) return;
    event.preventDefault();
    event.stopPropagation();
    shell.classList.remove("lab-dropping");
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    const plain = [...event.dataTransfer.files]; // a browser may have no entry of what no folder holds
    tried(async () => give(entries.length ? await dropped(entries) : plain))();
  }, true);
  window.addEventListener("paste", (event) => {
    const pasted = [...(event.clipboardData?.files ?? [])];
    if (!pasted.length || !el.checkVisibility()) return;
    event.preventDefault();
    event.stopPropagation();
    give(pasted);
  }, true);

  // 2 Box.
  const BOX_HINT = "Choose a name, then draw a box around each such thing. Click a box to choose or rename it, or a dashed box (a proposal) to accept it.";
  const place = make("div");
  const boxHint = make("p", { class: "srl-note", role: "status" });
  const toTrain = make("button", { type: "button", class: "lab-go", text: "Go to Train", onclick: () => go("train") });
  panels.box.append(make("div", { class: "srl-bar lab-box-hint" }, boxHint, toTrain), place);

  function build(state) {
    labeller?.destroy();
    until = state.until;
    taught = state.taught;
    run = state.run;
    watched = run?.watch ?? [];
    labeller = createLabeller(place, {
      frames: state.frames.map((frame) => ({ ...frame, url: `${root()}/${frame.url}` })),
      classes: state.classes, colors: values.colors, theme: dark() ? "dark" : "light", tallest: 0.46,
      save: (frame) => ask(`${token}/label`, { id: frame.id, boxes: frame.boxes, labelled: frame.labelled }),
      propose: (frame) => ask(`${token}/propose`, { id: frame.id }),
      rename: (names, renamed) => ask(`${token}/classes`, { names, renamed }).catch((error) => say(error.message, true)),
      remove: (frame) => ask(`${token}/remove`, { id: frame.id }),
    });
    labeller.frames.listen(() => show());
    // At once, so that a page opened during a training shows it.
    if (run && !["done", "failed"].includes(run.phase)) poll();
    show();
  }
  const dark = () => document.body.classList.contains("dark");

  // 3 Train.
  const ready = make("div", { class: "lab-ready" });
  const teach = make("button", { type: "button", class: "lab-go", text: "Train (about 4 minutes)", onclick: tried(train) });
  const stop = make("button", { type: "button", text: "Stop and keep what is learned", hidden: "", onclick: tried(async () => { stop.disabled = true; await ask(`${token}/stop`, {}); }) });
  const toUse = make("button", { type: "button", class: "lab-go", text: "Use it", onclick: () => go("use") });
  const meter = make("progress", { max: "1", value: "0", "aria-label": "Progress of the training" });
  const told = make("p", { class: "lab-told", role: "status" });
  const charts = [make("canvas", { role: "img", "aria-label": "Loss of each stage" }), make("canvas", { role: "img", "aria-label": "AP50 of each stage on held-out images" })];
  const moving = make("canvas", { role: "img", "aria-label": "The proposals of one held-out image while it learns" });
  const legend = make("p", { class: "srl-legend" });
  const figures = make("div", { class: "lab-figures", hidden: "" },
    make("figure", {}, make("figcaption", { text: "One held-out image: where its proposals end" }), moving),
    make("figure", {}, make("figcaption", { text: "AP50 on held-out images" }), charts[1]),
    make("figure", {}, make("figcaption", { text: "Loss" }), charts[0]), legend);
  const words = make("div", { class: "lab-words" });
  panels.train.append(ready, make("div", { class: "srl-bar" }, toUse, teach, stop), meter, told, words, figures);

  async function train() {
    if (labeller.state.unsaved) throw new Error("Not all boxes are saved yet. Wait a moment.");
    say("");
    watched = [];
    run = await ask(`${token}/train`, {});
    poll();
    show();
  }

  let lost = ""; // what is said while no answer comes
  function poll() {
    clearTimeout(polling);
    const whose = token;
    polling = setTimeout(async () => {
      if (whose !== token) return;
      try {
        const now = await ask(`${token}/run?watched=${watched.length}`);
        if (whose !== token) return; // begun anew meanwhile
        const before = run?.phase;
        if (now) {
          if (now.watch.length) watched.push(...now.watch);
          run = now;
          if (now.phase === "done" && before !== "done") {
            taught = true;
            labeller.propose();
          }
        }
        if (said.textContent === lost) say("");
      } catch (error) {
        if (whose !== token) return;
        lost = `${error.message} The training goes on without this page.`;
        if (error.refused) run = { ...run, phase: "failed", problem: error.message };
        else say(lost, true);
      }
      show();
      if (run && !["done", "failed"].includes(run.phase)) poll();
    }, document.hidden ? 5 * POLL : POLL);
  }

  const PHASES = { waiting: "Starting …", checking: "Checking the images …", measuring: "Timing a few steps …", judging: "Looking at the held-out images …" };
  function progress() {
    if (run.place > 0) return `Somebody else's training runs. Yours is number ${run.place} in the queue: about ${4 * run.place} minutes until it begins. You can close this page meanwhile.`;
    if (run.phase === "training") {
      const left = run.seconds_left === null ? "" : `, about ${clock(run.seconds_left)} left`;
      return `Step ${run.step} of ${run.steps}${left}.`;
    }
    if (run.phase === "failed") return run.problem;
    if (run.phase === "done") {
      const made = run.time_over ? `The time was up after ${run.done_steps} of ${plural(run.steps, "step")}` : `${run.stopped ? "Stopped: " : ""}${plural(run.done_steps, "step")} in ${clock(run.seconds)}`;
      return `${made}. ${run.judgement.words}`;
    }
    return PHASES[run.phase] ?? "";
  }

  function showTrain() {
    const { frames } = labeller.state;
    const labelled = frames.filter((frame) => frame.labelled);
    const counts = new Map(labeller.state.classes.map((name) => [name, 0]));
    for (const frame of labelled) for (const { name } of frame.boxes) counts.set(name, (counts.get(name) ?? 0) + 1);
    const boxes = [...counts.values()].reduce((a, b) => a + b, 0);
    const few = [...counts].filter(([, number]) => number < 5).map(([name, number]) => `${name} (${number})`);
    const at = run && !["done", "failed"].includes(run.phase);
    const short = labelled.length < 2 || !boxes;
    const lines = [`${plural(labelled.length, "image")} labelled, ${plural(boxes, "box")}: ${[...counts].map(([name, number]) => `${name} ${number}`).join(", ") || "no class yet"}.`];
    if (short) lines.push("Training needs at least two labelled images, one of them with a box.");
    if (labelled.length < frames.length) lines.push(`${plural(frames.length - labelled.length, "image")} without a label will be left out. If one shows none of your things, say so in Box ("Nothing here").`);
    if (few.length && boxes && !run?.notes?.length) lines.push(`Few boxes of ${few.join(", ")}: ten or more of each, in different places, help most.`);
    const key = lines.join("\n");
    if (ready.dataset.key !== key) {
      ready.dataset.key = key;
      ready.replaceChildren(...lines.map((text) => make("p", { text })));
    }
    teach.hidden = at;
    toUse.hidden = at || !taught;
    teach.classList.toggle("lab-go", !taught);
    teach.disabled = short || at;
    setText(teach, taught ? "Train further on these images (about 4 minutes)" : "Train (about 4 minutes)");
    stop.hidden = !at;
    if (!at) stop.disabled = false;
    meter.hidden = !run;
    figures.hidden = !watched.length && !run?.loss?.length;
    if (!run) return;
    meter.value = run.phase === "done" ? 1 : run.steps ? run.step / run.steps : 0;
    setText(told, progress());
    told.classList.toggle("lab-bad", run.phase === "failed");
    const notes = [...(run.notes ?? []), ...(run.judgement?.classes ?? []).map((one) => one.words)];
    const news = notes.join("\n");
    if (words.dataset.key !== news) {
      words.dataset.key = news;
      words.replaceChildren(
        ...(run.judgement ? [make("h3", { text: "What it is good and bad at" }), make("ul", {}, ...run.judgement.classes.map((one) => make("li", {
          class: one.objects && one.found >= 0.8 * one.objects ? "lab-fine" : "lab-weak", text: one.words })))] : []),
        ...(run.notes ?? []).map((text) => make("p", { class: "srl-note", text })));
    }
    const rows = run.loss ?? [];
    const tones = values.stages[(rows[0]?.length ?? 0) - 2] ?? []; // a row: step, one number a stage
    legend.replaceChildren(...tones.map((tone, i) => make("span", {}, make("i", { class: "srl-dot", style: { background: tone } }), `stage ${i + 1}`)));
    chart(charts[0], rows, tones, null);
    chart(charts[1], run.ap50_curve ?? [], tones, 1);
  }

  // A line for each stage, in its tone. top: the scale's maximum, by default that of the data.
  function chart(canvas, rows, tones, top) {
    const width = canvas.parentElement.clientWidth;
    if (!width) return;
    const height = 150, left = 34, low = height - 18;
    const g = sharp(canvas, width, height);
    g.clearRect(0, 0, width, height);
    const ink = getComputedStyle(canvas).color;
    const last = Math.max(run.steps ?? 1, ...rows.map((row) => row[0]));
    const most = top ?? Math.max(1, ...rows.slice(1).flatMap((row) => row.slice(1)));
    g.fillStyle = ink;
    g.strokeStyle = ink;
    g.font = "12px system-ui, sans-serif";
    g.textAlign = "right";
    for (const share of [0, 0.5, 1]) {
      const y = low - share * (low - 8);
      g.globalAlpha = 0.25;
      g.lineWidth = 1;
      g.beginPath();
      g.moveTo(left, y + 0.5);
      g.lineTo(width, y + 0.5);
      g.stroke();
      g.globalAlpha = 1;
      g.fillText(String(+(share * most).toPrecision(2)), left - 6, y + 4);
    }
    g.textAlign = "left";
    g.fillText(`step ${last}`, width - 60, height - 4);
    tones.forEach((tone, stage) => {
      g.strokeStyle = tone;
      g.lineWidth = 2;
      g.beginPath();
      rows.forEach((row, i) => {
        const x = left + (row[0] / last) * (width - left - 2), y = low - Math.min(1, row[stage + 1] / most) * (low - 8);
        if (i) g.lineTo(x, y);
        else g.moveTo(x, y);
        if (rows.length < 3) g.fillRect(x - 2, y - 2, 4, 4);
      });
      g.stroke();
    });
  }

  // The proposals move from where they ended before to where they end now.
  const still = new Image();
  still.onload = () => { walked = 0; };
  let walked = 0; // how far the last two looks are blended, 0..1, and how many looks there were
  let seen = 0;
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  function walk() {
    requestAnimationFrame(walk);
    if (figures.hidden || !el.checkVisibility() || step !== "train" || !watched.length) return;
    if (seen !== watched.length) {
      seen = watched.length;
      walked = calm.matches || watched.length < 2 ? 1 : 0;
    } else if (walked > 1) return;
    walked += 0.02;
    const now = watched.at(-1), before = watched.at(-2) ?? now;
    const url = `${root()}/${token}/image/${now.image}`;
    if (!still.src.endsWith(url)) still.src = url;
    const share = 1 - (1 - Math.min(1, walked)) ** 3;
    const [height, width] = now.size;
    const scale = Math.min(moving.parentElement.clientWidth / width, 340 / height);
    if (!(scale > 0)) return;
    const g = sharp(moving, Math.round(width * scale), Math.round(height * scale));
    if (still.complete && still.naturalWidth) g.drawImage(still, 0, 0, width * scale, height * scale);
    now.boxes.forEach((box, i) => {
      const from = before.boxes[i] ?? box;
      const [x1, y1, x2, y2] = box.map((value, k) => (from[k] + (value - from[k]) * share) * scale);
      const score = (before.scores[i] ?? 0) + (now.scores[i] - (before.scores[i] ?? 0)) * share;
      const tone = now.step ? values.colors[now.labels[i] % values.colors.length] : "#c4c9d0";
      g.globalAlpha = 0.12 + 0.88 * score;
      g.lineWidth = 1 + 2.5 * score;
      g.strokeStyle = tone;
      g.strokeRect(x1, y1, x2 - x1, y2 - y1);
      if (score > 0.4 && now.step) {
        const text = `${run?.classes?.[now.labels[i]] ?? ""} ${score.toFixed(2).replace(/^0/, "")}`;
        g.globalAlpha = 1;
        g.font = "600 12px system-ui, sans-serif";
        g.fillStyle = tone;
        g.fillRect(x1, Math.max(0, y1 - 16), g.measureText(text).width + 8, 16);
        g.fillStyle = textOn(parse(tone));
        g.fillText(text, x1 + 4, Math.max(0, y1 - 16) + 12);
      }
    });
    g.globalAlpha = 1;
    g.font = "600 13px system-ui, sans-serif";
    g.fillStyle = "rgba(20,23,28,.8)";
    g.fillRect(0, height * scale - 20, 84, 20);
    g.fillStyle = "#ffffff";
    g.fillText(now.step ? `step ${now.step}` : "before", 6, height * scale - 6);
  }
  requestAnimationFrame(walk);

  // 4 Use.
  const use = (text, more, work, go = "") => make("button", { type: "button", class: go, onclick: tried(work) }, text, make("small", { text: more }));
  const away = (kind) => async () => {
    say("Making the file …");
    const file = await ask(`${token}/download/${kind}`);
    const href = URL.createObjectURL(file);
    make("a", { href, download: file.name }).click();
    setTimeout(() => URL.revokeObjectURL(href), 60_000); // some megabytes; Safari reads them late
    say("");
  };
  const verdict = make("p");
  panels.use.append(verdict,
    make("div", { class: "lab-uses" }, use("Live", "point the camera at it", live, "lab-go"), use("Explore a frame", "what each stage does", exploreFrame)),
    make("h3", { text: "Download" }),
    make("div", { class: "lab-uses" }, use("Data", "COCO, a zip", away("data")), use("Model", "safetensors", away("model")),
      use("One page that detects", "html, needs nothing else", away("playground")), use("An explored frame", "html", away("page"))),
    make("p", { class: "srl-note", text: "You can add images or classes at any time: go back to Show or Box, then train further." }));

  // The taught model becomes the page's, with the threshold at which it did best.
  async function choose() {
    say("Loading what you taught …");
    const { model, threshold } = await ask(`${token}/use`, {});
    if (lab.loaded !== model) lab.set("lab-model", model);
    const end = performance.now() + 60_000;
    while (lab.loaded !== model) {
      if (performance.now() > end) throw new Error("What you taught is not loaded after a minute. Is the machine busy? Try again.");
      await new Promise((done) => setTimeout(done, 100));
    }
    lab.part("lab-face-name").textContent = labeller.state.classes.join(", ");
    lab.part("lab-face-image").src = labeller.frames.current()?.url ?? "";
    lab.set("lab-threshold", threshold);
    say("");
  }
  async function live() {
    stopCamera();
    await choose();
    lab.open("live");
    setTimeout(() => lab.part("lab-camera-on")?.click(), 300);
  }
  async function exploreFrame() {
    const frame = labeller.frames.current();
    if (!frame) throw new Error("There is no frame to explore.");
    const answer = await fetch(frame.url).catch(() => null);
    if (!answer?.ok) throw new Error("The app does not answer. Is it still running?");
    const blob = await answer.blob();
    await choose();
    lab.open("explore");
    const transfer = new DataTransfer();
    transfer.items.add(new File([blob], "frame.jpg", { type: "image/jpeg" }));
    const input = document.querySelector("#lab-input input[type=file]");
    input.files = transfer.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  }

  anew.onclick = tried(async () => {
    if (busy || batches || labeller.state.unsaved) throw new Error("Not everything is saved yet. Wait a moment.");
    if (labeller.state.frames.length && !confirm("Start over? The images so far stay under their link.")) return;
    stored("removeItem");
    token = null;
    history.replaceState(null, "", location.pathname);
    stopCamera();
    build({ frames: [], classes: [], run: null, until: 0, taught: false });
    foot.hidden = true;
    go("show");
  });

  // All four parts together.
  function go(name) {
    step = name;
    if (!said.classList.contains("lab-bad")) say(""); // it was about the step before
    if (name !== "show" && stream) stopCamera();
    for (const [own] of STEPS) panels[own].hidden = own !== name;
    show();
    if (name === "box") {
      labeller.frames.tell("frame");
      labeller.focus();
    }
  }

  function show() {
    if (!labeller) return;
    const { frames } = labeller.state;
    const labelled = frames.filter((frame) => frame.labelled).length;
    const at = run && !["done", "failed"].includes(run.phase);
    const notes = {
      show: frames.length ? plural(frames.length, "image") : `about ${WANTED} images`,
      box: frames.length ? `${labelled} of ${frames.length} labelled` : "draw and name",
      train: at ? (run.place > 0 ? "in the queue" : run.seconds_left ? `${clock(run.seconds_left)} left` : "at work") : run?.phase === "failed" ? "failed" : taught ? "done" : "4 minutes",
      use: taught ? "live, explore, download" : "when it is taught",
    };
    for (const [name] of STEPS) {
      const button = document.getElementById(`lab-step-${name}`) ?? bar.querySelector(`#lab-step-${name}`);
      setText(button.lastChild, notes[name]);
      if (name === step) button.setAttribute("aria-current", "step");
      else button.removeAttribute("aria-current");
      button.disabled = (name === "box" && !frames.length) || (name === "use" && !taught);
    }
    bar.querySelector("#lab-step-train").disabled = !frames.length;
    camera.classList.toggle("lab-on", Boolean(stream));
    camera.lastChild.hidden = stream && frames.length > 2; // it was read
    shoot.hidden = halt.hidden = !stream;
    if (!stream) turn.hidden = true;
    setText(count, frames.length || busy ? `${frames.length} of about ${WANTED} images${busy ? ", one is being saved …" : ""}` : "");
    toBox.hidden = frames.length < 2;
    toBox.classList.toggle("lab-go", frames.length >= WANTED);
    const all = frames.length > 1 && labelled === frames.length && frames.some((frame) => frame.boxes.length);
    setText(boxHint, all ? `All ${frames.length} images are labelled.` : BOX_HINT);
    toTrain.hidden = !all;
    if (step === "show") showShots(frames);
    if (step === "train") showTrain();
    if (step === "use" && run?.judgement) setText(verdict, run.judgement.words);
    foot.hidden = !token || !frames.length;
    if (token && until) {
      const day = new Date(1000 * Math.max(until, Date.now() / 1000 + values.days * 86400)).toLocaleDateString(undefined, { day: "numeric", month: "long" });
      setText(kept, `Kept until ${day}. To come back from anywhere: `);
    } else setText(kept, `Kept for ${values.days} days. To come back from anywhere: `);
  }

  // By number, since an import creates all of them again.
  function toFrame(id) {
    labeller.frames.go(labeller.state.frames.findIndex((one) => one.id === id));
    go("box");
  }
  const shown = new Map();
  function showShots(frames) {
    const ids = new Set(frames.map((frame) => frame.id));
    for (const [id, shot] of shown) if (!ids.has(id)) { shot.remove(); shown.delete(id); }
    for (const frame of frames) {
      if (shown.has(frame.id)) continue;
      const shot = make("button", { type: "button", "aria-label": `Image ${shown.size + 1}, to its boxes`, onclick: () => toFrame(frame.id) }, make("img", { src: frame.url, alt: "", loading: "lazy" }));
      shown.set(frame.id, shot);
      shots.append(shot);
      shots.scrollLeft = shots.scrollWidth;
    }
  }

  document.addEventListener("keydown", (event) => {
    if (event.key !== " " || step !== "show" || !stream || !el.checkVisibility()) return;
    if (event.target.matches("input, textarea, select, [contenteditable]") || (event.target.matches("button") && event.target !== shoot)) return;
    event.preventDefault();
    tried(take)();
  });
  // The tab needs the whole width; when it is left, other tabs may use the camera.
  function watch() {
    const here = el.checkVisibility();
    document.body.classList.toggle("lab-teaching", here);
    if (stream && !here) stopCamera();
  }
  new IntersectionObserver(watch).observe(el);
  document.addEventListener("click", () => requestAnimationFrame(watch));
  setInterval(watch, 500);
  new MutationObserver(() => { labeller.root.dataset.theme = shell.dataset.theme = dark() ? "dark" : "light"; labeller.frames.tell(); })
    .observe(document.body, { attributes: true, attributeFilter: ["class"] });
  shell.dataset.theme = dark() ? "dark" : "light";

  build({ frames: [], classes: [], run: null, until: 0, taught: false });
  go("show");
  window.labTeach = { give, go, state: () => ({ token, run, step, frames: labeller.state.frames, proposals: labeller.state.proposals, at: labeller.state.at, watched }) };
  async function comeBack() {
    const whose = token;
    try {
      const state = await ask(`${token}/state`);
      if (whose !== token) return;
      remember();
      if (said.textContent === missed) say("");
      build(state);
      go(state.run && !["done", "failed"].includes(state.run.phase) ? "train" : state.frames.length ? "box" : "show");
    } catch (error) {
      if (whose !== token) return;
      say(error.message, true);
      missed = error.message;
      if (!error.refused) return void setTimeout(comeBack, 1500); // until then nothing of it is shown
      if (stored("getItem") === token) stored("removeItem"); // else the link is somebody else's, and one's own stays
      history.replaceState(null, "", location.pathname); // to come back to after a reload
      token = null;
    }
  }
  let missed = "";
  if (token) comeBack();
}

// Gradio draws its page late, and may draw it again.
new MutationObserver(() => {
  const el = document.getElementById("lab-teach");
  if (el && !el.dataset.begun) {
    el.dataset.begun = "true";
    createTeach(el);
  }
}).observe(document.documentElement, { childList: true, subtree: true });
