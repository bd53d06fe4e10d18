"""What all workers of one server share: its listeners, its secrets and a private folder."""

import contextlib
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from pywharf.backends.secret_flags import secret_of_file
from pywharf.config.settings import ServerSettings
from pywharf.core.errors import InvalidConfigError
from pywharf.core.os_errors import reason_of
from pywharf.core.redaction import Redacted
from pywharf.core.secret_text import secret_text, token_text
from pywharf.index.generations import Generations
from pywharf.listener import listen
from pywharf.serving.watched_files import exists
from pywharf.serving.wrong_secrets import WrongSecrets

_SESSION_KEY_BYTES = 32


class Shared(Redacted, frozen=True):
    """What all workers of one server share."""

    listener: socket.socket
    internal: socket.socket | None
    """The listener for the cluster, not for clients."""
    folder: Path
    """A private folder, deleted when the server ends."""
    session_key: bytes
    initialize_secret: str | None
    generations: Generations | None = None
    """The repos' generations, which several workers share; None with one worker."""
    wrong_secrets: WrongSecrets = msgspec.field(default_factory=WrongSecrets)

    def close_listeners(self) -> None:
        """Close the listeners here; other processes keep theirs."""
        self.listener.close()
        if self.internal is not None:
            self.internal.close()


@contextlib.contextmanager
def sharing(settings: ServerSettings) -> Iterator[Shared]:
    """Open what the workers share, until the context ends. Raises InvalidConfigError."""
    key = own_secret(settings, settings.session_secret, "--session_secret")
    initialize_secret = own_secret(settings, settings.initialize_secret, "--initialize_secret")
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(_listen(settings, settings.port, "--port"))
        internal = None
        if settings.internal_port is not None:
            internal = stack.enter_context(_listen(settings, settings.internal_port, "--internal_port"))
        folder = Path(tempfile.mkdtemp(prefix="pywharf-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        session_key = key.encode() if key is not None else secrets.token_bytes(_SESSION_KEY_BYTES)
        generations = Generations() if settings.workers > 1 else None
        yield Shared(listener, internal, folder, session_key, initialize_secret, generations)


def own_secret(settings: ServerSettings, given: str | None, flag: str) -> str | None:
    """Read a secret of the server itself; None if the flag was not given. Raises InvalidConfigError."""
    if given is None:
        return None
    is_text = settings.config_or_admin_secret_can_be_text and not exists(given)
    text = secret_text(given) if is_text else secret_of_file(given, flag)
    if not token_text(text):
        raise InvalidConfigError(f"{flag}: the secret is empty.")
    return text


def _listen(settings: ServerSettings, port: int, flag: str) -> socket.socket:
    try:
        return listen(settings.host, port, settings.backlog)
    except OSError as error:
        raise InvalidConfigError(
            f"Cannot listen on {settings.host} port {port}: {reason_of(error)}. Choose another --host or {flag}."
        ) from error
