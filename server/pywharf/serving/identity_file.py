"""The identity document that a configuration names: read its file, check its digest, and compile its issuers."""

from pywharf.config.repo_config import ServerConfig
from pywharf.core.access.identity_document import parse_document
from pywharf.core.access.trusted_issuers import compile_issuers
from pywharf.core.errors import InvalidConfigError
from pywharf.serving.config_files import read_document
from pywharf.serving.definitions import NO_IDENTITY, ServedIdentity
from pywharf.serving.watched_files import Seen

_WHAT = "identity_file"


class IdentityFile:
    """The reader of the document. It keeps what it compiled last."""

    def __init__(self) -> None:
        self._last = NO_IDENTITY

    def load(self, parsed: ServerConfig, seen: Seen) -> ServedIdentity:
        """Read and compile the document that the configuration names. Blocks.

        Raises IncompleteConfigError if it has not arrived yet, InvalidConfigError if it cannot be used.
        """
        path = parsed.identity_file
        if path is None:
            return NO_IDENTITY
        text, digest = read_document(path, _WHAT, "The identities", parsed.identity_digest, seen)
        if digest != self._last.digest:
            try:
                document = parse_document(text.encode())
                self._last = ServedIdentity(document, digest, compile_issuers(document))
            except InvalidConfigError as error:
                raise InvalidConfigError(f"{_WHAT}, the file {path}: {error}") from None
        return self._last
