// What the scripts of the page share. It comes first.
window.lab = {
  // An address of the app's own. Gradio knows the path that the page is under; its host may be that
  // behind a proxy.
  url(path) {
    const root = new URL(window.gradio_config.root, location.href).pathname.replace(/\/$/, "");
    return `${root}/lab/${path}`;
  },
};
