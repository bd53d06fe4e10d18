"""The HTTP side: aiohttp only, over `pywharf.index`."""
