"""Copy packages from a repo, a folder or another index into a repo: sources, the plan, and the copying itself."""
