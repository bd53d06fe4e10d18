"""What changed, and which servers to look at. The only folder that imports kopf."""
