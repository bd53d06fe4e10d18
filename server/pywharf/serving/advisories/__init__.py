"""Follow a feed of advisories: fetch it, compile it in a process of its own, share it among workers, keep it."""
