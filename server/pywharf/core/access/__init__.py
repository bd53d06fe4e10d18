"""PURE. Who may do what with a repo: its secrets, its access entries, and the identities that clients prove."""
