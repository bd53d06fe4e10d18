"""The pure core: specifications and decisions, without I/O except on streams that the caller opened."""
