"""The storages: one module or folder each, opened by `pywharf.backends.opening`."""
