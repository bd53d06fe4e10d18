"""Requests to other hosts: the allowed hosts, proxies, sessions, and the client of the extra index."""
