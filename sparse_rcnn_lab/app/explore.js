// The tab Explore: shows the explorer of the image that the page is about; explore_tab.py runs what
// is changed in it. What the page opens with is shown at once, in a frame of its own (page.py,
// opening), and moves into Gradio's page when that is built, which takes seconds.
(() => {
  const ABOVE = 130; // pixels of the page over the explorer, on a laptop
  const PATIENCE = 30_000; // milliseconds for a new token
  let module = null;
  let close = null; // takes the explorer down
  let shown = null; // {token, of, proposals, threshold}: what it is about
  let away = false; // another tab was open: its controls count
  let renewed = []; // who waits for a new token

  const host = document.createElement("div"); // where the explorer is, wherever that is
  host.id = "lab-explorer";
  const address = () => lab.url(`explore/${shown.token}`);

  async function show(text) {
    const told = text ? JSON.parse(text) : null;
    const same = told && shown && told.of === shown.of;
    const before = host.explorer;
    if (told && before && !away) {
      // For another image the settings here stay.
      told.threshold = before.store.state.threshold;
      if (told.of.split(" ")[1] === shown?.of.split(" ")[1]) told.proposals = before.used();
    }
    if (lab.tab() === "explore") away = false; // else it is what was left that is told of late
    shown = told;
    renewed.splice(0).forEach((done) => done());
    if (same) return take();
    close?.();
    close = null;
    if (!told) return;
    module ??= import(lab.url("explore/module.js"));
    const start = fetch(address()).then((answer) => (answer.ok ? answer.json() : Promise.reject(answer)));
    let explorer, payload, options;
    try {
      [{ default: explorer }, { payload, options }] = await Promise.all([module, start]);
    } catch (error) {
      module = null;
      if (shown?.of !== told.of) return; // another image was chosen meanwhile
      shown = null; // so that it is fetched when it is chosen again
      if (error.status === 410) lab.part("lab-explore-again")?.click();
      else if (lab.part("lab-say")) lab.say("The app does not answer. Is it still running?");
      return;
    }
    while (!host.isConnected) await new Promise(requestAnimationFrame);
    if (shown?.of !== told.of) return; // another image was chosen meanwhile
    close?.();
    const values = { payload, options: { ...options, threshold: told.threshold, theme: theme(), above: ABOVE } };
    const model = { get: (name) => values[name], link: explorer.serverLink(ask) };
    close = explorer.render({ model, el: host });
    take();
  }

  // The controls of the page keep their values across tabs: the explorer gets and sets them.
  function take() {
    const { explorer } = host;
    if (!explorer) return;
    explorer.store.set({ threshold: shown.threshold });
    if (explorer.used() !== shown.proposals) explorer.useFirst(shown.proposals);
  }

  document.addEventListener("click", (event) => {
    const tab = event.target.closest?.("#lab-tabs > .tab-wrapper button[role=tab]");
    const { explorer } = host;
    if (!tab || !explorer || lab.tab() !== "explore" || tab.id === "lab-tab-explore-button") return;
    away = true;
    explorer.tour.stop();
    const { threshold, stage, playing } = explorer.store.state;
    const last = explorer.base().stages;
    const values = { threshold, proposals: explorer.used(), stage: playing ? last : Math.min(stage, last) };
    for (const [name, value] of Object.entries(values)) {
      const field = document.querySelector(`#lab-${name} input`);
      if (field && Number(field.value) !== value) lab.set(`lab-${name}`, value);
    }
  }, true);

  function theme() {
    const asked = new URLSearchParams(location.search).get("__theme");
    if (asked === "light" || asked === "dark") return asked;
    return document.body.classList.contains("dark") ? "dark" : "auto";
  }

  async function ask(message) {
    const headers = { "content-type": "application/json" };
    const post = () => fetch(address(), { method: "POST", headers, body: JSON.stringify(message) });
    const answer = await post();
    if (answer.status !== 410) return answer;
    await new Promise((done, failed) => {
      renewed.push(done);
      setTimeout(failed, PATIENCE);
      document.getElementById("lab-explore-again").click();
    });
    return post();
  }

  // Until Gradio's page is there: its last parts, and the tab's own; or another tab, which a link
  // to somebody's Teach opens.
  function settle() {
    const frame = lab.part("lab-opening");
    const seen = (id) => lab.part(id)?.checkVisibility();
    const built = !document.querySelector("gradio-app .load-text")?.checkVisibility() && seen("lab-tab-teach-button");
    const here = built && seen("lab-explorer-place") && seen("lab-keep");
    if (here) lab.part("lab-explorer-place").append(host);
    if (here || (built && (lab.tab() ?? "explore") !== "explore")) {
      if (frame) scrollTo(0, frame.scrollTop);
      frame?.remove();
    } else if (frame && !host.isConnected) lab.part("lab-opening-explorer").append(host);
    if (!here) setTimeout(settle, 30);
  }

  // What is shown and was changed, for what is kept of it.
  function still() {
    const { explorer } = host;
    if (!explorer) return "";
    const { threshold, stage, playing, chosen, show: which, color, tab } = explorer.store.state;
    const told = { intervention: explorer.changes.intervention, threshold, chosen, show: which, color, tab };
    const { stages } = explorer.base();
    if (!playing && stage < stages) told.stage = stage; // else it plays once, and ends there
    return JSON.stringify(told);
  }

  window.labExplore = { show, still };
  settle();
  if (window.labFirst) show(window.labFirst);
})();
