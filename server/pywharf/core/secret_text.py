"""The one rule that extracts a secret's text, wherever it comes from. Pure."""

_BYTE_ORDER_MARK = "\ufeff"


def secret_text(content: bytes | str) -> str:
    r"""Return the secret that a file, a variable or a Kubernetes Secret holds.

    Editors put a byte order mark before a text and a line end after it. Both are invisible, and neither is part of the
    secret. Everything else is, including spaces. Raises UnicodeDecodeError for bytes that are not UTF-8.

    >>> secret_text(b"\xef\xbb\xbf a secret \r\n")
    ' a secret '
    """
    text = content if isinstance(content, str) else content.decode()
    return text.removeprefix(_BYTE_ORDER_MARK).rstrip("\r\n")
