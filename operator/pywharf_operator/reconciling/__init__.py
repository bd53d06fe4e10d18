"""One PackageServer: read its objects, apply what differs, prune what is no longer wanted."""
