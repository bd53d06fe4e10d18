"""The Kubernetes objects of a server, one module for each kind."""
