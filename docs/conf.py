"""Sphinx: `make docs`."""

project = "pywharf"
extensions = ["myst_parser"]
myst_heading_anchors = 3
exclude_patterns = ["decisions/README.md"]
html_theme = "alabaster"
