// What Gradio does not have: the model's tiles, the strip of images, dropping and pasting anywhere,
// pictures that are clicked. It comes before the other scripts.
(() => {
  // Gradio has its path from the server, which does not know what a proxy put before it.
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
    // What the browser alone knows of the tab that is open: a frame, a drawing, what was explored.
    still: () => ({ live: labLive, draw: labPad, explore: labExplore }[lab.tab()]?.still() ?? ""),
    click: (id) => lab.part(id).click(),
    tab: () => document.querySelector("#lab-tabs button[role=tab][aria-selected=true]")?.id.slice(8, -7),
    open: (name) => document.getElementById(`lab-tab-${name}-button`)?.click(),
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
  // What was given goes in by the button's own way, so that Gradio's limits hold.
  function give(files) {
    const chosen = [...files].filter((file) => file.size > 0);
    const video = chosen.find((file) => file.type.startsWith("video/"));
    if (video) lab.open("video");
    const input = document.querySelector(video ? "#lab-video-in input[type=file]" : "#lab-input input[type=file]");
    if (!chosen.length) return lab.say("There was no file in what was given. Give an image: JPEG, PNG, WebP, HEIC.");
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
