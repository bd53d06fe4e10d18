"""The watches: what changed, and which servers to reconcile. The only folder that imports kopf."""
