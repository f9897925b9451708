// The tab Explore: shows the explorer of the image that the page is about; explore_tab.py runs what
// is changed in it. Loaded after page.js.
(() => {
  let module = null;
  let close = null; // takes the explorer down
  let shown = null; // {token, of, proposals, threshold}: what it is about
  let renewed = []; // who waits for a new token

  const place = () => document.getElementById("lab-explorer");
  const address = () => lab.url(`explore/${shown.token}`);

  async function show(text) {
    const told = text ? JSON.parse(text) : null;
    const same = told && shown && told.of === shown.of;
    shown = told;
    renewed.splice(0).forEach((done) => done());
    if (same) return;
    close?.();
    close = null;
    if (!told) return;
    module ??= import(lab.url("explore/module.js"));
    const [{ default: explorer }, start] = await Promise.all([module, fetch(address()).then((answer) => answer.json())]);
    while (!place()) await new Promise(requestAnimationFrame);
    if (shown !== told) return; // another image was chosen meanwhile
    const values = { payload: start.payload, options: { ...start.options, ...looks(told) } };
    const model = { get: (name) => values[name], link: explorer.serverLink(ask) };
    close?.();
    close = explorer.render({ model, el: place() });
  }

  const looks = (told) => ({
    threshold: told.threshold,
    theme: document.body.classList.contains("dark") ? "dark" : "light",
    above: 140,
  });

  async function ask(message) {
    const headers = { "content-type": "application/json" };
    const post = () => fetch(address(), { method: "POST", headers, body: JSON.stringify(message) });
    const answer = await post();
    if (answer.status !== 410) return answer;
    const again = new Promise((done) => renewed.push(done));
    document.getElementById("lab-explore-again").click();
    await again;
    return post();
  }

  window.labExplore = { show };
})();
