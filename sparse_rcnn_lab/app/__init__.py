"""The demo app. bench.py does the work without Gradio; page.py and one file a tab lay it out."""
