"""The pod templates of the server and of index Jobs."""
