// Light or dark: as asked for, else as JupyterLab's theme, else as the system.

export function watchTheme(root, wanted, changed) {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    const lab = document.body?.dataset.jpThemeLight;
    const dark = wanted === "auto" ? (lab ? lab === "false" : system.matches) : wanted === "dark";
    if (root.dataset.theme === (dark ? "dark" : "light")) return;
    root.dataset.theme = dark ? "dark" : "light";
    changed();
  };
  const observer = new MutationObserver(apply);
  observer.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light"] });
  system.addEventListener("change", apply);
  apply();
  return () => {
    observer.disconnect();
    system.removeEventListener("change", apply);
  };
}
