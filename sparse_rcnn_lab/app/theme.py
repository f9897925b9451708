"""How the page looks: Gradio's default theme, light and dark, with fonts of the reader's system."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]
HERE = Path(__file__).parent


def theme() -> gr.themes.Base:
    """Neutral greys, so that the colours on the picture are the only ones."""
    return gr.themes.Default(
        primary_hue="teal", neutral_hue="slate", radius_size="md", font=FONTS, font_mono=MONO
    )


def css() -> str:
    """The style sheet of the page, beside Gradio's own."""
    return (HERE / "page.css").read_text(encoding="utf-8")


def head() -> str:
    """What the page runs in the browser, beside Gradio."""
    return f"<script>{(HERE / 'live.js').read_text(encoding='utf-8')}</script>"
