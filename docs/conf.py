"""Sphinx: `make docs`."""

project = "pywharf"
extensions = ["myst_parser"]
myst_heading_anchors = 3
html_theme = "alabaster"
