"""PURE. Advisories of a feed in OSV's format: parse them, keep them compactly, find those about a version."""
