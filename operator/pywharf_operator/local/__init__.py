"""The commands that need no cluster: they render or serve a folder of manifests on this machine."""
