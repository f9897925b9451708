"""How the page looks: Gradio's default theme, light and dark, with fonts of the reader's system."""

from __future__ import annotations

import gradio as gr

FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]


def theme() -> gr.themes.Base:
    """Neutral greys, so that the colours on the picture are the only ones."""
    return gr.themes.Default(
        primary_hue="teal", neutral_hue="slate", radius_size="md", font=FONTS, font_mono=MONO
    )


CSS = """
.gradio-container { max-width: 1500px !important; margin: 0 auto; }
#lab-head, #lab-numbers, #lab-list, #lab-caption, #lab-caption > div,
#lab-head > div, #lab-numbers > div, #lab-list > div { padding: 0 !important; }
#lab-head h1 { font-size: 1.35rem; font-weight: 650; margin: 0; }
#lab-head p { margin: .15rem 0 0; color: var(--body-text-color-subdued); }
#lab-examples .grid-wrap { padding: 6px; overflow: hidden; }
#lab-samples { flex-wrap: nowrap; }
.lab-caption { font-size: .875rem; color: var(--block-label-text-color); }
#lab-result { min-height: 260px; }
#lab-result img { object-fit: contain; max-height: 62vh; width: 100%; }
.lab-readout { display: grid; grid-template-columns: 1fr 1fr; gap: .75rem; }
.lab-readout > div { border: 1px solid var(--border-color-primary); border-radius: 8px;
  padding: .55rem .8rem; background: var(--block-background-fill); }
.lab-readout b { display: block; font-size: 1.7rem; line-height: 1.15; font-weight: 650;
  font-variant-numeric: tabular-nums; }
.lab-readout span, .lab-hint, .lab-table caption { color: var(--body-text-color-subdued);
  font-size: .875rem; }
.lab-hint { margin: .25rem 0; }
#lab-list { min-height: 8rem; }
.lab-table { max-height: 17rem; overflow: auto; border: 1px solid var(--border-color-primary);
  border-radius: 8px; }
.lab-table table { width: 100%; border-collapse: collapse; font-size: .875rem;
  font-variant-numeric: tabular-nums; margin: 0; }
.lab-table caption { text-align: left; padding: .5rem .7rem; caption-side: top; }
.lab-table th, .lab-table td { padding: .3rem .45rem; text-align: right; border: 0;
  border-top: 1px solid var(--border-color-primary); font-weight: 400; white-space: nowrap; }
.lab-table th:first-child { text-align: left; }
.lab-table thead th { position: sticky; top: 0; background: var(--block-background-fill);
  font-weight: 600; }
.lab-table i { display: inline-block; width: .75em; height: .75em; border-radius: 3px;
  margin-right: .5em; border: 1px solid rgba(127, 127, 127, .6); }
@media (max-width: 760px) {
  /* One column, and the dials right below the picture they act on. */
  #lab-page { flex-direction: column; flex-wrap: nowrap; }
  #lab-left, #lab-right { display: contents; }
  #lab-result { order: 1; min-height: 200px; }
  #lab-numbers { order: 2; }
  #lab-dials { order: 3; }
  #lab-input { order: 4; }
  #lab-list { order: 5; }
  #lab-result img { max-height: 48vh; }
}
"""
