"""The server's credentials for GitHub: a personal access token, or an installation of a GitHub App."""

import re
import tomllib

import msgspec
from github.Auth import AppAuth, Auth, Token

from pywharf.core.errors import InvalidConfigError, UnauthenticatedError
from pywharf.core.msgspec_warmup import warmed_up
from pywharf.core.secret_text import token_text

_CLIENT_TOKEN = re.compile(r"[A-Za-z0-9_.-]{1,4096}")
"""A client's token in any form. Tokens of apps and of Actions hold a JSON web token, with its dots."""
_GITHUBS_TOKEN = re.compile(r"(gh[a-z]{1,3}_|github_[a-z]{2,8}_|v1\.)[A-Za-z0-9_.-]{16,4090}|[0-9a-f]{40}")
"""A token of github.com: a prefix for each kind of token, and the two forms that are older than prefixes.

Source: "GitHub's token formats" in its documentation. The pattern is looser, because GitHub has added kinds and lengths
before. A JSON web token by itself is none: with one a GitHub App only asks for its tokens. It may be somebody's proof
of an identity, which must not leave the server.
"""
_GITHUBS_HOSTS = ("github.com", "ghe.com")
_EXAMPLE = "app_id, installation_id and private_key, as TOML or JSON"


@warmed_up
class _App(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An installation of a GitHub App."""

    app_id: str | int
    installation_id: str | int
    private_key: str

    def __repr__(self) -> str:
        """Leave out the key."""
        return "_App(...)"


def parse_credentials(secret: str) -> Auth:
    """Parse a secret's text. Each thread needs its own result, because an App's holds the hourly token.

    Raises InvalidConfigError, whose text shows nothing of the secret.
    """
    text = token_text(secret)
    if "private_key" in text:
        return _installation(text)
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise InvalidConfigError(f"The secret of a github backend is neither a personal access token nor {_EXAMPLE}.")
    return Token(text)


def is_token(secret: str, host: str) -> bool:
    """Return whether a text may be a token of the GitHub at that API host. An Enterprise Server may be older."""
    name = host.lower()
    is_githubs = any(name == one or name.endswith(f".{one}") for one in _GITHUBS_HOSTS)
    return (_GITHUBS_TOKEN if is_githubs else _CLIENT_TOKEN).fullmatch(secret) is not None


def parse_client_token(secret: str) -> Auth:
    """Parse a client's secret. Raises UnauthenticatedError if it cannot be a token."""
    if _CLIENT_TOKEN.fullmatch(secret) is None:
        raise UnauthenticatedError.wrong_secret()
    return Token(secret)


def _installation(text: str) -> Auth:
    try:
        data = msgspec.json.decode(text) if text.startswith("{") else tomllib.loads(text)
        app = msgspec.convert(data, _App)
        number = int(app.installation_id)
    except (msgspec.MsgspecError, tomllib.TOMLDecodeError, ValueError):
        raise InvalidConfigError(
            f"The secret of a github backend must be a personal access token, or {_EXAMPLE}, and nothing else."
        ) from None  # the cause may show the key
    if "-----BEGIN" not in app.private_key:
        raise InvalidConfigError(
            "private_key of a GitHub App must be the PEM text that GitHub gave, with its first and last line."
        )
    return AppAuth(app.app_id, app.private_key).get_installation_auth(number)
