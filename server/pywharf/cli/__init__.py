"""The composition root: commands that put settings, backends and the server together."""
