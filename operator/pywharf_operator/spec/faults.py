"""Descriptions of errors for logs and conditions."""

import traceback


def error_location(error: Exception) -> str:
    """Return the error's type and where it was raised; its own text may hold anything."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{where}"
