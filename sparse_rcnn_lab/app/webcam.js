// The webcam: frames are taken, sent to live_tab.py as JPEG, and shown when their boxes come back.
// A frame is taken when the app is about to be free for it: sooner, it would only grow old. At most
// two are on their way, so that a slow line shows fewer frames and not old ones; and one where
// answers take long: frames of several visitors would only wait for each other, and a photo for all.
(() => {
  const ON_THEIR_WAY = 2; // frames: one that is worked on, and one that waits beside it
  const SLOW = 250, QUICK = 120; // milliseconds of latency: from here on one frame, and two again
  const GAP = 33; // milliseconds between two frames at least: a camera gives no more
  const AGAIN = 1000; // milliseconds to wait after an answer that was an error
  const PATIENCE = 30_000; // milliseconds for an answer: a line that was cut does not always say so
  const NOTHING = 3000; // milliseconds without a detection until something is said
  const LOW = 0.3; // a threshold worth trying then
  const KEEP = 40; // frames that the numbers are taken from
  const QUALITY = 0.85; // of the JPEG
  const SIZE = { width: { ideal: 640 }, height: { ideal: 480 } };
  const SLIDERS = ["lab-proposals", "lab-stage", "lab-threshold"]; // as they come after the model
  const REFUSED = {
    NotAllowedError: "The browser may not use the camera. Allow it beside the address, then start again.",
    NotFoundError: "No camera was found. Connect one, then start again.",
    NotReadableError: "The camera is in use by another program. Close that one, then start again.",
    OverconstrainedError: "That camera is no longer there. Start again to use another one.",
    Insecure: "Browsers allow a camera only on pages of this machine or over https: start the app "
      + "with --ssl-certfile and --ssl-keyfile.",
  };

  const who = Math.random().toString(36).slice(2); // this page, among several visitors
  let state = null; // where the controls stand: model, num_proposals, stage, threshold, show, classes
  let stream = null;
  let wanted = false; // somebody started the camera, and did not stop it
  let starting = false; // the browser is asked for it, and may be asking the visitor
  let asked = ""; // the camera that was chosen; "" for the one that looks to `facing`
  let stopped = 0; // how often
  let room = ON_THEIR_WAY;
  let onTheirWay = 0;
  let latest = 0; // when the last frame was taken
  let gap = GAP; // to the next one: what the app needs for a frame
  let next = 0; // the timer of the next one
  let newest = 0; // when the one that is shown was
  let notBefore = 0;
  let still = null; // the frame that is shown, as it was sent
  let shown = [];
  let facing = "environment"; // or "user", the front camera
  let found = 0; // when something was found last

  const part = (id) => document.getElementById(id);
  const write = (place, text) => {
    if (place && place.textContent !== text) place.textContent = text;
  };
  const say = (text) => write(part("lab-live-note"), text);
  const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];
  // Nobody is looking: another tab of the page is open, or another page.
  const closed = () => !part("lab-live-stage")?.checkVisibility();

  function mark() {
    const stage = part("lab-live-stage");
    if (!stage) return;
    stage.classList.toggle("lab-on", wanted);
    stage.classList.toggle("lab-shown", wanted && shown.length > 0);
    part("lab-camera-off").disabled = !wanted;
  }

  async function start(camera = "") {
    wanted = true;
    asked = camera;
    if (starting || stream) return; // `watch` starts what was asked for meanwhile
    starting = true;
    say("");
    mark();
    const before = stopped;
    try {
      if (!navigator.mediaDevices) throw { name: "Insecure" };
      const one = camera ? { deviceId: { exact: camera } } : { facingMode: facing };
      const begun = await navigator.mediaDevices.getUserMedia({ video: { ...SIZE, ...one } });
      if (stopped !== before) return begun.getTracks().forEach((track) => track.stop());
      stream = begun;
      const track = stream.getVideoTracks()[0];
      track.onended = () => {
        stop();
        say("The camera was disconnected.");
      };
      part("lab-video").srcObject = stream;
      await part("lab-video").play();
      await offer(track.getSettings().deviceId);
      take();
    } catch (error) {
      if (stopped !== before) return; // before its first frame
      asked = "";
      stop();
      say(lab.noCamera(error));
    } finally {
      starting = false;
    }
  }

  lab.noCamera = (error) => REFUSED[error.name] ?? `The camera cannot be used (${error.message}).`;

  // Several cameras: let one be chosen.
  async function offer(current) {
    const all = await navigator.mediaDevices.enumerateDevices();
    const cameras = all.filter((device) => device.kind === "videoinput");
    part("lab-cameras").replaceChildren(...cameras.map((device, index) => {
      const name = device.label || `Camera ${index + 1}`;
      return new Option(name, device.deviceId, false, device.deviceId === current);
    }));
    part("lab-cameras").hidden = part("lab-camera-turn").hidden = cameras.length < 2;
  }

  // A phone's other side; of cameras that do not say where they look, the next.
  function other() {
    const looks = stream ? stream.getVideoTracks()[0].getSettings().facingMode : facing;
    const list = part("lab-cameras");
    if (!looks && list.length > 1) return list.options[(list.selectedIndex + 1) % list.length].value;
    facing = (looks || facing) === "user" ? "environment" : "user";
    return "";
  }

  // away: only until the tab is opened again.
  function stop(away = false) {
    wanted = away && wanted;
    stopped += 1;
    newest = performance.now(); // what was taken before is not shown any more
    stream?.getTracks().forEach((track) => {
      track.onended = null;
      track.stop();
    });
    stream = null;
    shown = [];
    nothing(false);
    if (part("lab-video")) part("lab-video").srcObject = null;
    mark();
  }

  const sheet = window.OffscreenCanvas ? new OffscreenCanvas(1, 1) : document.createElement("canvas");
  function encoded(video) {
    sheet.width = video.videoWidth;
    sheet.height = video.videoHeight;
    sheet.getContext("2d", { alpha: false }).drawImage(video, 0, 0);
    const kind = { type: "image/jpeg", quality: QUALITY };
    if (sheet.convertToBlob) return sheet.convertToBlob(kind);
    return new Promise((done) => sheet.toBlob(done, kind.type, kind.quality));
  }

  async function take() {
    const video = part("lab-video");
    const now = performance.now();
    if (!stream || !state || !video?.videoWidth || onTheirWay >= room || now < notBefore) return;
    if (document.hidden || closed()) return;
    if (now < latest + gap) {
      clearTimeout(next); // one: who asks meanwhile would each begin a row of them that never ends
      next = setTimeout(take, latest + gap - now);
      return;
    }
    latest = now;
    onTheirWay += 1;
    let picture = null;
    try {
      const encoding = encoded(video);
      picture = await createImageBitmap(sheet);
      const frame = await encoding;
      if (stream && !closed()) await send(frame, picture, now); // it may have been stopped meanwhile
    } catch {
      notBefore = performance.now() + AGAIN;
      if (stream) say("The app does not answer. Is it still running?");
    }
    picture?.close();
    onTheirWay -= 1;
    take();
  }

  async function send(frame, picture, taken) {
    const query = new URLSearchParams({ who, state: JSON.stringify(state) });
    const headers = { "content-type": "image/jpeg" };
    const signal = AbortSignal.timeout(PATIENCE);
    const answer = await fetch(`${lab.url("frame")}?${query}`, { method: "POST", body: frame, headers, signal });
    const told = await answer.json();
    if (answer.ok) return show(frame, picture, taken, told.boxes, answer.headers);
    notBefore = performance.now() + AGAIN;
    say(told.problem);
  }

  function show(frame, picture, taken, boxes, headers) {
    if (!stream || closed() || taken < newest) return; // a later one was quicker
    newest = taken;
    gap = Math.max(GAP, 0.8 * gap + 0.2 * Number(headers.get("lab-busy")));
    still = frame;
    const canvas = part("lab-live");
    // As many pixels as the screen has for it, so that letters are sharp.
    const fits = Math.min(canvas.clientWidth / picture.width, canvas.clientHeight / picture.height);
    const unit = Math.min(3, Math.max(1, fits * devicePixelRatio));
    const [width, height] = [picture.width, picture.height].map((side) => Math.round(side * unit));
    if (canvas.width !== width) canvas.width = width;
    if (canvas.height !== height) canvas.height = height;
    canvas.getContext("2d", { alpha: false }).drawImage(picture, 0, 0, width, height);
    lab.drawBoxes(canvas, boxes, unit);
    const now = performance.now();
    shown.push({ now, took: now - taken });
    while (shown.length > KEEP) shown.shift();
    if (shown.length === 1) mark();
    const count = lab.count(headers);
    if (count !== "0" || shown.length === 1) found = now;
    nothing(now - found > NOTHING);
    say("");
    canvas.dispatchEvent(new CustomEvent("lab-frame", { detail: { taken, now } }));
  }

  lab.count = (headers) => {
    const count = headers.get("lab-found");
    write(part("lab-count"), count === "-" ? "–" : count);
    write(part("lab-count")?.nextElementSibling, count === "1" ? "detection" : "detections");
    write(part("lab-ms"), headers.get("lab-milliseconds"));
    return count;
  };

  // When nothing is found, a text over the image says what to do.
  function nothing(long) {
    const place = part("lab-live-nothing");
    if (place.hidden === !long) return;
    place.hidden = !long;
    if (!long) return;
    place.firstElementChild.textContent = `Nothing found for ${NOTHING / 1000} seconds. ${part("lab-knows").innerText}`;
    place.querySelectorAll("button").forEach((one) => one.remove());
    const ways = [["Choose another model", () => part("lab-face").click()]];
    const [everyday] = document.querySelectorAll('[data-model*="everyday"]');
    if (everyday && everyday.dataset.model !== state[0]) {
      const name = everyday.querySelector("b").textContent;
      ways.unshift([`Try “${name}”`, () => lab.choose(everyday.dataset.model)]);
    }
    if (state[3] > LOW) ways.push(["Lower the threshold", () => lab.set("lab-threshold", LOW)]);
    place.append(...ways.map(([words, act]) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = words;
      button.onclick = () => {
        found = performance.now();
        nothing(false);
        act();
      };
      return button;
    }));
  }

  function watch() {
    if (part("lab-snap")) part("lab-snap").disabled = !still;
    const empty = { live: !still, draw: !window.labPad.strokes }[lab.tab()] ?? false;
    for (const button of document.querySelectorAll("#lab-keep button")) button.disabled = empty;
    if (stream && closed()) stop(true);
    else if (!stream && wanted && !closed() && !document.hidden) start(asked);
    const now = performance.now();
    while (shown.length && now - shown[0].now > 3000) shown.shift();
    const some = shown.length > 3;
    const seconds = some ? (shown[shown.length - 1].now - shown[0].now) / 1000 : 0;
    write(part("lab-fps"), some ? ((shown.length - 1) / seconds).toFixed(0) : "–");
    const latency = some ? median(shown.map((one) => one.took)) : null;
    if (latency > SLOW) room = 1;
    else if (latency !== null && latency < QUICK) room = ON_THEIR_WAY;
    write(part("lab-latency"), some ? latency.toFixed(0) : "–");
    take();
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("#lab-camera-on, #lab-camera-off, #lab-camera-turn");
    if (!button) return;
    const camera = button.id === "lab-camera-turn" ? other() : asked;
    if (button.id !== "lab-camera-on") stop();
    if (button.id !== "lab-camera-off") start(camera);
  });
  document.addEventListener("change", (event) => {
    if (event.target.id !== "lab-cameras") return;
    stop();
    start(event.target.value);
  });
  // Gradio reports a slider too, but a tenth of a second later.
  document.addEventListener("input", (event) => {
    if (event.target.type !== "range" || !state) return;
    const place = SLIDERS.indexOf(event.target.closest(".block")?.id);
    if (place < 0) return;
    state = state.with(place + 1, Number(event.target.value));
    window.labPad?.send();
  });
  setInterval(watch, 250);

  window.labLive = {
    move: (...values) => {
      state = values;
      window.labPad?.send();
    },
    get state() { return state; },
    // The frame that is shown, without its boxes, as a data URI; "" if there is none.
    still: () => new Promise((done) => {
      if (!still) return done("");
      const reader = new FileReader();
      reader.onload = () => done(reader.result);
      reader.readAsDataURL(still);
    }),
  };
})();
