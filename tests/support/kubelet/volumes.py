"""A pod's volumes as folders, laid out and swapped as a kubelet does it."""

import base64
import os
import secrets
import shutil
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Json = dict[str, Any]
Files = dict[str, tuple[bytes, int]]
"""Content and mode of each file, by its path in the volume."""
_DEFAULT_MODE = 0o644


class NotYetError(Exception):
    """An object or key that a volume or variable needs is missing."""


Read = Callable[[str, str], Awaitable[Json | None]]
"""A function that reads a ConfigMap or Secret by kind and name."""


@dataclass
class Volumes:
    """The volumes of one pod."""

    pod: Json
    folder: Path
    """Folder of the pod; `volumes/NAME` in it is the volume NAME, unless that is a claim."""
    claims: Path
    """Folder with a folder for each PersistentVolumeClaim of the namespace; pods share them."""
    read: Read
    token: Callable[[int], Awaitable[str]]
    """A function that returns a token of the pod's account, valid for that many seconds."""

    def path(self, name: str) -> Path:
        volume = next(one for one in self.pod["spec"]["volumes"] if one["name"] == name)
        if claim := volume.get("persistentVolumeClaim"):
            return self.claims / str(claim["claimName"])
        return self.folder / "volumes" / name

    @property
    def claimed(self) -> list[str]:
        """Names of the PersistentVolumeClaims."""
        volumes = self.pod["spec"].get("volumes", ())
        return [one["persistentVolumeClaim"]["claimName"] for one in volumes if "persistentVolumeClaim" in one]

    async def refresh(self) -> None:
        """Update all volumes. Raises NotYetError after updating those whose sources all exist."""
        failures = []
        for volume in self.pod["spec"].get("volumes", ()):
            path = self.path(volume["name"])
            path.mkdir(parents=True, exist_ok=True)
            try:
                files = await self._files(volume)
            except NotYetError as error:
                failures.append(str(error))
            else:
                if files is not None:
                    _swap(path, files)
        if failures:
            raise NotYetError("; ".join(failures))

    async def _files(self, volume: Json) -> Files | None:
        """Return the volume's files; None if the pod itself fills the volume."""
        if "emptyDir" in volume or "persistentVolumeClaim" in volume:
            return None
        if projected := volume.get("projected"):
            files: Files = {}
            for source in projected["sources"]:
                files |= await self._source(source, projected.get("defaultMode", _DEFAULT_MODE))
            return files
        own = {key: content for key, content in volume.items() if key != "name"}
        (content,) = own.values()
        return await self._source(own, content.get("defaultMode", _DEFAULT_MODE))

    async def _source(self, source: Json, mode: int) -> Files:
        ((kind, content),) = source.items()
        match kind:
            case "configMap":
                return await self._keys("ConfigMap", content["name"], content, mode)
            case "secret":
                return await self._keys("Secret", content.get("secretName") or content["name"], content, mode)
            case "serviceAccountToken":
                token = await self.token(content.get("expirationSeconds", 3600))
                return {content["path"]: (token.encode(), 0o600)}
            case "downwardAPI":
                return {
                    item["path"]: (field_of(self.pod, item["fieldRef"]["fieldPath"]).encode(), mode)
                    for item in content["items"]
                }
        raise AssertionError(f"the stand-in for a kubelet knows no volume of the kind {kind}")

    async def _keys(self, kind: str, name: str, source: Json, mode: int) -> Files:
        optional = source.get("optional", False)
        found = await self.read(kind, name)
        if found is None:
            if optional:
                return {}
            raise NotYetError(f'{kind.lower()} "{name}" not found')
        content = data_of(found)
        if (items := source.get("items")) is None:
            return {key: (value, mode) for key, value in content.items()}
        for item in items:
            if item["key"] not in content and not optional:
                raise NotYetError(f'{kind.lower()} "{name}" references non-existent key {item["key"]}')
        return {
            item["path"]: (content[item["key"]], item.get("mode", mode)) for item in items if item["key"] in content
        }


def data_of(found: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the data of a ConfigMap or Secret, decoded."""
    encoded = found.get("binaryData") or {}
    plain = found.get("data") or {}
    if found.get("kind") == "Secret":
        encoded, plain = plain, {}
    return {key: value.encode() for key, value in plain.items()} | {
        key: base64.b64decode(value) for key, value in encoded.items()
    }


def field_of(pod: Json, path: str) -> str:
    """Return the value of a `fieldRef`."""
    value: Any = pod
    for part in path.split("."):
        value = value[part]
    return str(value)


def _swap(volume: Path, files: Files) -> None:
    """Replace all files of a volume atomically if any differs: fill a new folder, then link `..data` to it."""
    data = volume / "..data"
    if data.exists() and _content(data) == files:
        return
    new = volume / f"..{secrets.token_hex(6)}"
    for path, (content, mode) in files.items():
        file = new / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        file.chmod(mode)
    new.mkdir(exist_ok=True)
    old = data.resolve() if data.exists() else None
    unfinished = volume / "..data_tmp"
    unfinished.symlink_to(new.name)
    unfinished.rename(data)
    shown = {Path(path).parts[0] for path in files}
    for name in shown:
        if not (volume / name).is_symlink():
            (volume / name).symlink_to(f"..data/{name}")
    for link in volume.iterdir():
        if not link.name.startswith("..") and link.name not in shown:
            link.unlink()
    if old is not None:
        shutil.rmtree(old)


def _content(data: Path) -> Files:
    folder = data.resolve()
    paths = [Path(base) / name for base, _, names in os.walk(folder) for name in names]
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mode & 0o777) for path in paths}
