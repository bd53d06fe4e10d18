"""The Kubernetes objects of a server, a module for each kind."""
