"""Texts of clients as logs may hold them. Pure."""


def log_text(text: str, most: int) -> str:
    r"""Return the first `most` characters, with "?" for each that ends a line, controls a terminal or has no encoding.

    >>> log_text("a\x1b[31m\nb", 7)
    'a?[31m?'
    """
    text = text[:most]
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)
