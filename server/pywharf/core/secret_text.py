"""The two rules that extract a secret's text. Pure.

Every secret that is configured is read by `secret_text`, wherever it comes from: a file, a variable, a flag, a
configuration, a Kubernetes Secret. `token_text` is for the few of them that cannot hold white space around. A secret
that a client sends with a request is compared as it was sent.
"""

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


def token_text(content: bytes | str) -> str:
    r"""Return a secret that others made: a token of GitHub, a generated key, a revision.

    No such text begins or ends with white space, which comes along when people copy it. A key that is nothing but white
    space is missing. Raises UnicodeDecodeError for bytes that are not UTF-8.

    >>> token_text(b"\xef\xbb\xbf a token \r\n")
    'a token'
    """
    return secret_text(content).strip()
