"""The operator's side of pywharf: the resources, what is rendered from them, and `up`, which needs no cluster."""
