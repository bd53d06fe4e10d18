"""Requests to other hosts: which may be connected to, proxies, sessions, and the client of the extra index."""
