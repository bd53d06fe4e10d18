"""pywharf: a private Python package index whose packages live where a team already stores things."""

__version__ = "1.0.0"
