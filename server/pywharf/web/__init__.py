"""The HTTP layer over `pywharf.index`, with aiohttp as its only framework."""
