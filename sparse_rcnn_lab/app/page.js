// What Gradio does not have: the model's tiles, the strip of images, dropping and pasting anywhere,
// images that can be clicked. It is loaded before the other scripts.
(() => {
  // Gradio has its path from the server, which does not know a proxy's prefix.
  window.gradio_config.root = new URL(".", location.href).href.replace(/\/$/, "");
  const IMAGE_TABS = ["explore", "photo", "compare"];

  window.lab = {
    // An address of the app's own, wherever a proxy has put the page.
    url: (path) => `${window.gradio_config.root}/lab/${path}`,
    part: (id) => document.getElementById(id),
    // Types into one of Gradio's components, as a person would.
    set(id, value) {
      const field = document.querySelector(`#${id} textarea, #${id} input`);
      field.value = value;
      for (const kind of ["input", "change"]) field.dispatchEvent(new Event(kind, { bubbles: true }));
    },
    // What only the browser knows of the open tab: a frame, a drawing, what was explored.
    still: () => ({ live: labLive, draw: labPad, explore: labExplore }[lab.tab()]?.still() ?? ""),
    click: (id) => lab.part(id).click(),
    tab: () => document.querySelector("#lab-tabs button[role=tab][aria-selected=true]")?.id.slice(8, -7),
    open: (name) => document.getElementById(`lab-tab-${name}-button`)?.click(),
    // Boxes as live_tab.py tells them, best first, over what is on a canvas. unit: its pixels for
    // one of the frame that the boxes are in.
    drawBoxes(canvas, boxes, unit = 1) {
      const g = canvas.getContext("2d");
      const line = Math.max(2, Math.max(canvas.width, canvas.height) / 250);
      const high = Math.max(14, Math.round(line * 7));
      const placed = [];
      g.font = `600 ${Math.round(high * 0.7)}px system-ui, sans-serif`;
      g.textBaseline = "middle";
      for (const [x1, y1, x2, y2, color, , opacity, width] of [...boxes].reverse()) {
        const box = [x1, y1, x2 - x1, y2 - y1].map((side) => side * unit);
        g.globalAlpha = opacity;
        for (const [style, more] of [["#14171c", 1.5], [color, 1]]) { // a dark rim, on light images
          g.strokeStyle = style;
          g.lineWidth = line * width * more;
          g.strokeRect(...box);
        }
      }
      g.globalAlpha = 1;
      for (const [x1, y1, , , color, label] of boxes.slice(0, 40)) {
        if (!label) continue;
        const wide = g.measureText(label).width + high * 0.5;
        const left = Math.max(0, Math.min(x1 * unit - line / 2, canvas.width - wide));
        let top = y1 * unit - high >= 0 ? y1 * unit - high : Math.max(0, y1 * unit);
        const meets = ([l, t, w]) => left < l + w && l < left + wide && top < t + high && t < top + high;
        for (let tries = 0; tries < 4; tries += 1) {
          const other = placed.find(meets);
          if (!other) break;
          top = other[1] + high;
        }
        placed.push([left, top, wide]);
        g.fillStyle = "#14171c";
        g.fillRect(left, top, wide, high);
        g.fillStyle = color;
        g.fillRect(left, top, line, high);
        g.fillStyle = "#ffffff";
        g.fillText(label, left + high * 0.3, top + high * 0.53);
      }
    },
    say(text) {
      const place = lab.part("lab-say");
      place.textContent = text;
      place.hidden = !text;
      clearTimeout(lab.silence);
      lab.silence = setTimeout(() => { place.hidden = true; }, 8000);
    },
    // Another model was loaded.
    model(name) {
      for (const tile of document.querySelectorAll("#lab-models [data-model]")) {
        const own = tile.dataset.model === name;
        tile.setAttribute("aria-pressed", String(own));
        if (!own) continue;
        lab.part("lab-face-image").src = tile.querySelector("img").src;
        lab.part("lab-face-name").textContent = tile.querySelector("b").textContent;
      }
      lab.loaded = name;
    },
    choose(name) {
      lab.part("lab-models").close();
      lab.set("lab-model", name);
    },
  };
  // Given files are passed on through the button, so that Gradio's limits apply.
  async function give(files) {
    const chosen = [...files].filter((file) => file.size > 0);
    const video = chosen.find((file) => file.type.startsWith("video/"));
    if (video) {
      lab.open("video");
      // Gradio builds a tab when it is opened for the first time.
      while (!document.querySelector("#lab-video-in :is(input[type=file], video)")) await new Promise(requestAnimationFrame);
    }
    const input = document.querySelector(video ? "#lab-video-in input[type=file]" : "#lab-input input[type=file]");
    if (!chosen.length) return lab.say("No file was given. Give an image: JPEG, PNG, WebP, HEIC.");
    if (!input) return lab.say("There is a video already: remove it first (× at its corner).");
    if (!video && !IMAGE_TABS.includes(lab.tab())) lab.open("explore");
    const transfer = new DataTransfer();
    for (const file of video ? [video] : chosen) transfer.items.add(file);
    input.files = transfer.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  }

  const hasFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    document.body.classList.add("lab-dragged");
  }, true);
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("lab-dragged");
  }, true);
  document.addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    event.stopPropagation();
    document.body.classList.remove("lab-dragged");
    give(event.dataTransfer.files);
  }, true);
  document.addEventListener("paste", (event) => {
    const files = event.clipboardData?.files ?? [];
    if (!files.length) return;
    event.preventDefault();
    give(files);
  });

  document.addEventListener("click", (event) => {
    const on = (selector) => event.target.closest?.(selector);
    const models = lab.part("lab-models");
    if (on("#lab-face")) models.showModal();
    else if (on("#lab-models-close") || event.target === models) models.close();
    else if (on("[data-model]")) lab.choose(on("[data-model]").dataset.model);
    else if (on("[data-image]")) lab.set("lab-picked", `${on("[data-image]").dataset.image} ${Date.now()}`);
    else if (on("[data-stage]")) {
      lab.set("lab-stage", on("[data-stage]").dataset.stage);
      lab.part("lab-part-image-button").click();
    } else if (on("[data-proposals]")) {
      lab.set("lab-proposals", on("[data-proposals]").dataset.proposals);
      lab.part("lab-part-image-button").click();
    } else if (on("#lab-tour")) tour();
    else if (on("#lab-try-five")) fewer(5);
  });

  // After a reload the tab that was open opens again; a link to what was taught opens Teach.
  const kept = (act, ...tab) => { try { return sessionStorage[act]("lab-tab", ...tab); } catch { return null; } };
  const again = performance.getEntriesByType("navigation")[0]?.type === "reload" && kept("getItem");
  const first = new URLSearchParams(location.search).has("teach") ? "teach" : again || "explore";
  addEventListener("pagehide", () => kept("setItem", lab.tab() ?? first));
  if (first !== "explore") {
    const opening = setInterval(() => {
      if (lab.tab() === first) return clearInterval(opening);
      // Among them are those of Gradio's menu, for tabs that find no room.
      const tabs = [...document.querySelectorAll("#lab-tabs .tab-wrapper button")].filter((one) => one.tabIndex >= 0);
      return tabs.find((one) => one.textContent.trim().toLowerCase() === first)?.click();
    }, 400);
  }

  async function explorer() {
    lab.open("explore");
    for (;;) {
      const shown = lab.part("lab-explorer")?.explorer;
      if (shown?.frames && lab.part("lab-explorer").checkVisibility()) return shown;
      await new Promise(requestAnimationFrame);
    }
  }

  async function tour() { (await explorer()).tour.start(); }

  async function fewer(number) {
    const shown = await explorer();
    shown.useFirst(number);
    shown.motion.jump(0);
    shown.motion.play();
  }
})();
