"""The pure core: specifications and decisions, no I/O but on streams that the caller opened."""
