"""A server's configuration as files, replaced atomically as a kubelet does it."""

import base64
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pywharf.core.toml_text import dumps
from pywharf_operator.render import RenderedServer
from pywharf_operator.render.objects.cache import CACHE_KEY
from pywharf_operator.render.objects.config_map import ADMIN_SECRET_KEY, CONFIG_KEY, texts_of
from pywharf_operator.render.objects.identity import IDENTITY_KEY

_CURRENT = "..data"
_CREDENTIALS = "credentials"


class Delivery:
    """A private folder (0700, its files 0600) that is deleted when the context ends.

    `config.toml`, `admin_secret.toml` and `credentials` are links through `..data`, which names one complete set. The
    policies and the identity document lie in `credentials`, because the configuration names them as it names the
    secrets.
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="pywharf-up-"))  # made with 0700
        self._number = 0
        self._delivered: RenderedServer | None = None
        for name in (CONFIG_KEY, ADMIN_SECRET_KEY, _CREDENTIALS):
            (self._folder / name).symlink_to(Path(_CURRENT, name))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def config(self) -> str:
        """Path for `--config`."""
        return str(self._folder / CONFIG_KEY)

    @property
    def admin_secret(self) -> str:
        """Path for `--admin_secret`."""
        return str(self._folder / ADMIN_SECRET_KEY)

    @property
    def cache_config(self) -> str:
        """Path for `--cache_config`."""
        return str(self._folder / CACHE_KEY)

    @property
    def credentials_folder(self) -> str:
        """Path of the folder in which the configuration names its secrets."""
        return str(self._folder / _CREDENTIALS)

    def write_cache(self, limits: Mapping[str, Any]) -> None:
        """Write the configuration of a cache in the server's root. Raises OSError. Blocks."""
        _create(self._folder / CACHE_KEY, dumps({"type": "file_system", **limits}).encode())

    def deliver(self, rendered: RenderedServer) -> None:
        """Replace the current set atomically. Raises OSError; the last set then stays. Blocks."""
        if rendered == self._delivered:
            return
        self._number += 1
        name = f"..{self._number}"
        secrets = {key: value for shard in rendered.credentials for key, value in shard["data"].items()}
        named = {} if rendered.policies is None else texts_of(rendered.policies)
        texts = texts_of(rendered.config_map)
        texts.pop(CACHE_KEY, None)  # read once, when the server starts
        if IDENTITY_KEY in texts:
            named |= {IDENTITY_KEY: texts.pop(IDENTITY_KEY)}
        _write(self._folder / name, texts, secrets, named)
        link = self._folder / "..link"
        link.unlink(missing_ok=True)
        link.symlink_to(name)
        link.replace(self._folder / _CURRENT)
        # The previous set may still be in use; the one before it is not.
        shutil.rmtree(self._folder / f"..{self._number - 2}", ignore_errors=True)
        self._delivered = rendered


def _write(folder: Path, texts: Mapping[str, str], secrets: Mapping[str, Any], named: Mapping[str, str]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    (folder / _CREDENTIALS).mkdir(mode=0o700)
    for key, text in texts.items():
        _create(folder / key, text.encode())
    for key, text in named.items():
        _create(folder / _CREDENTIALS / key, text.encode())
    for key, encoded in secrets.items():
        _create(folder / _CREDENTIALS / key, base64.b64decode(encoded))


def _create(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        file.write(content)
