"""Write files durably, and report a full disk."""
