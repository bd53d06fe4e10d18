"""The composition root: commands that combine settings, backends and the server."""
