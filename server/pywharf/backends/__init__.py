"""The storages: one module each, opened by `pywharf.backends.opening`."""
