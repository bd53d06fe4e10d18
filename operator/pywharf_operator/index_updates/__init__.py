"""The Jobs that run update_index: when they start, and what they report."""
