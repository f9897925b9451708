// The drawing pad: strokes are kept as points, a closed one is filled, and the drawing is sent as
// the camera's frames are (live_tab.py), while one draws. The boxes come back and lie over it.
(() => {
  const PAPER = "#f4f1ea";
  const LINE = 5; // pixels
  const CLOSED = 0.35; // ends nearer than this share of the stroke's size close it
  const AGAIN = 1000; // milliseconds to wait after an answer that was an error
  const PATIENCE = 30_000; // milliseconds for an answer
  const CORNERS = { t: 3, s: 4 };

  let strokes = []; // [{color, points, done}]
  let color = null;
  let started = false; // its model is there
  let sending = false;
  let stale = false;
  let again = 0; // the timer after an answer that was none
  let troubled = ""; // what the note said before something went wrong
  const who = `draw-${Math.random().toString(36).slice(2)}`;

  const canvas = () => lab.part("lab-pad-drawn");
  const open = () => lab.part("lab-pad")?.checkVisibility();

  function draw() {
    const g = canvas().getContext("2d");
    g.fillStyle = PAPER;
    g.fillRect(0, 0, canvas().width, canvas().height);
    for (const { color: own, points, done } of strokes) {
      const path = new Path2D();
      points.forEach(([x, y], i) => (i ? path.lineTo(x, y) : path.moveTo(x, y)));
      g.strokeStyle = g.fillStyle = own;
      g.lineWidth = LINE;
      g.lineJoin = g.lineCap = "round";
      if (done && closed(points)) {
        path.closePath();
        g.fill(path);
      }
      g.stroke(path);
    }
    for (const id of ["lab-pad-undo", "lab-pad-clear", "lab-pad-snap"]) lab.part(id).disabled = !strokes.length;
    send();
  }

  function closed(points) {
    const xs = points.map(([x]) => x);
    const ys = points.map(([, y]) => y);
    const size = Math.max(Math.max(...xs) - Math.min(...xs), Math.max(...ys) - Math.min(...ys));
    const [first, last] = [points[0], points.at(-1)];
    return points.length > 8 && Math.hypot(first[0] - last[0], first[1] - last[1]) < CLOSED * size;
  }

  // One at a time; the newest drawing is the next.
  async function send() {
    stale = true;
    if (sending || !started || !window.labLive?.state) return;
    sending = true;
    while (stale && open()) {
      stale = false;
      clearTimeout(again);
      const blob = await new Promise((done) => canvas().toBlob(done, "image/jpeg", 0.92));
      const name = lab.part("lab-pad-model").textContent;
      const state = name ? window.labLive.state.with(0, name).with(5, []) : window.labLive.state;
      const query = new URLSearchParams({ who, state: JSON.stringify(state) });
      try {
        const headers = { "content-type": "image/jpeg" };
        const answer = await fetch(`${lab.url("frame")}?${query}`, { method: "POST", body: blob, headers, signal: AbortSignal.timeout(PATIENCE) });
        const told = await answer.json();
        if (told.problem) {
          trouble(told.problem); // a model that is being loaded
        } else {
          if (troubled) lab.part("lab-pad-note").textContent = troubled;
          troubled = "";
          show(told, answer.headers);
        }
      } catch {
        trouble("The app does not answer. Is it still running?");
      }
    }
    sending = false;
  }

  // Reports the problem and sends the drawing again.
  function trouble(text) {
    troubled ||= lab.part("lab-pad-note").textContent;
    lab.part("lab-pad-note").textContent = text;
    again = setTimeout(send, AGAIN);
  }

  function show({ boxes }, headers) {
    const over = lab.part("lab-pad-boxes");
    over.getContext("2d").clearRect(0, 0, over.width, over.height);
    lab.drawBoxes(over, boxes);
    lab.count(headers);
  }

  function place(event) {
    const bounds = canvas().getBoundingClientRect();
    return [
      ((event.clientX - bounds.left) * canvas().width) / bounds.width,
      ((event.clientY - bounds.top) * canvas().height) / bounds.height,
    ];
  }

  const chosen = () => color ?? document.querySelector("#lab-pad-row [data-color]").dataset.color;

  document.addEventListener("pointerdown", (event) => {
    if (event.target.id !== "lab-pad-drawn" || event.button !== 0 || !event.isPrimary) return;
    event.target.setPointerCapture(event.pointerId);
    strokes.push({ color: chosen(), points: [place(event)], done: false });
    draw();
  });
  document.addEventListener("pointermove", (event) => {
    const stroke = strokes.at(-1);
    if (event.target.id !== "lab-pad-drawn" || !event.isPrimary || !stroke || stroke.done) return;
    stroke.points.push(place(event));
    draw();
  });
  for (const kind of ["pointerup", "pointercancel"]) {
    document.addEventListener(kind, (event) => {
      const stroke = strokes.at(-1);
      if (!event.isPrimary || !stroke || stroke.done) return;
      stroke.done = true;
      draw();
    });
  }

  document.addEventListener("click", (event) => {
    const on = (selector) => event.target.closest?.(selector);
    if (on("[data-color]")) {
      color = on("[data-color]").dataset.color;
      for (const one of document.querySelectorAll("[data-color]")) one.setAttribute("aria-pressed", String(one.dataset.color === color));
    } else if (on("#lab-tab-draw-button")) {
      draw();
    } else if (on("#lab-pad-undo")) {
      strokes.pop();
      draw();
    } else if (on("#lab-pad-clear")) {
      strokes = [];
      draw();
    }
  });

  // Without a pointer, a key draws a shape.
  document.addEventListener("keydown", (event) => {
    const key = event.key.toLowerCase();
    if (event.target.id !== "lab-pad-drawn" || !"ctsh".includes(key) || event.ctrlKey || event.metaKey) return;
    const size = 40 + 40 * Math.random();
    const [x, y] = [canvas().width, canvas().height].map((side) => size + (side - 2 * size) * Math.random());
    const turn = Math.random();
    const points = Array.from({ length: 61 }, (_, i) => {
      const t = (2 * Math.PI * i) / 60;
      if (key === "h") return [x + size * Math.sin(t) ** 3, y - (size / 16) * (13 * Math.cos(t) - 5 * Math.cos(2 * t) - 2 * Math.cos(3 * t) - Math.cos(4 * t))];
      const n = CORNERS[key];
      const r = n ? (size * Math.cos(Math.PI / n)) / Math.cos((t % ((2 * Math.PI) / n)) - Math.PI / n) : size;
      return [x + r * Math.cos(t + turn), y + r * Math.sin(t + turn)];
    });
    strokes.push({ color: chosen(), points, done: true });
    draw();
  });

  window.labPad = {
    still: () => (strokes.length ? canvas().toDataURL("image/jpeg", 0.95) : ""),
    send,
    start() {
      started = true;
      draw();
    },
    get strokes() { return strokes.length; },
  };
})();
