"""A generated index of a few hundred projects, with the pages and files that PyPI has."""

import hashlib
import random
import re
from dataclasses import dataclass, field
from pathlib import Path

from pywharf.core.model import rfc3339
from support.distributions.wheels import sdist, wheel
from support.server.upstream import Upstream

SERIAL = 1_000_000
_BORN = 1_700_000_000
_HOUR_S = 3600
PLATFORMS = ("manylinux_2_17_x86_64", "manylinux_2_17_aarch64", "macosx_11_0_arm64", "win_amd64")
LARGE_BYTES = 4_000_000
ODD = ("odd-local", "odd-platforms", "odd-large", "odd-no-digest", "odd-no-metadata")
"""Projects that differ from the others: a local version, wheels of platforms, a large wheel, files without a digest,
wheels without metadata beside them."""


@dataclass
class Generated:
    """What was generated."""

    files: dict[str, list[Path]] = field(default_factory=dict)
    """By project, its wheels and sdists."""

    @property
    def plain(self) -> list[str]:
        """Projects without oddities, each of which requires only those before it."""
        return sorted(self.files.keys() - set(ODD))

    def digests(self) -> dict[str, str]:
        """Return the SHA-256 of each file by its name."""
        files = [file for files in self.files.values() for file in files]
        return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def generate_like_pypi(index: Upstream, folder: Path, projects: int, seed: int = 16) -> Generated:
    """Offer `projects` projects: releases with a wheel each, some with an sdist, some yanked, and the ODD ones.

    Their pages have ETags and serials, upload times, yanks, provenance and the digests of `.metadata` files. All
    wheels can be installed. Releases have one newest solution.
    """
    choose = random.Random(seed)
    made = Generated()
    names = [f"public-{number:03}" for number in range(projects - len(ODD))]
    for number, name in enumerate(names):
        requires = [f"{other}>=1.0" for other in choose.sample(names[:number], min(number, number % 3))]
        files = [_wheel(folder, name, f"{release}.0", requires) for release in range(1, choose.randint(2, 4))]
        if choose.random() < 0.3:
            files.append(sdist(folder, name, "1.0"))
        fields: dict[str, dict[str, object]] = {}
        if choose.random() < 0.1:
            files.append(_wheel(folder, name, "9.0", []))
            fields[files[-1].name] = {"yanked": "broken by mistake"}
        for file in files[:1]:
            fields.setdefault(file.name, {})["provenance"] = f"https://attest.example/{file.name}"
        made.files[name] = files
        _offer(index, name, files, fields=fields, serial=SERIAL + number)
    for name in ODD:
        made.files[name] = _odd_files(folder, name)
        hidden: dict[str, dict[str, object]] = {}
        if name == "odd-no-digest":
            hidden = {file.name: {"hashes": {}} for file in made.files[name]}
        _offer(index, name, made.files[name], fields=hidden, core_metadata=not name.startswith("odd-no"))
    return made


def _offer(
    index: Upstream,
    name: str,
    files: list[Path],
    *,
    serial: int = SERIAL,
    core_metadata: bool = True,
    fields: dict[str, dict[str, object]] | None = None,
) -> None:
    uploaded = {file.name: rfc3339(_BORN + number * _HOUR_S) for number, file in enumerate(files)}
    index.offer(name, *files, uploaded=uploaded, core_metadata=core_metadata, serial=serial, fields=fields)


def _wheel(folder: Path, name: str, version: str, requires: list[str], payload: bytes = b"") -> Path:
    extra = "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
    text = f"VALUE = {version!r}\n".encode() + payload
    return wheel(folder, name, version, payload=text, extra_metadata=extra)


def _odd_files(folder: Path, name: str) -> list[Path]:
    match name:
        case "odd-local":
            return [_wheel(folder, name, "1.0+cu126", [])]
        case "odd-platforms":
            plain = _wheel(folder, name, "1.0", [])
            return [_tagged(plain, platform) for platform in PLATFORMS]
        case "odd-large":
            noise = random.Random(name).randbytes(LARGE_BYTES // 2).hex()
            return [_wheel(folder, name, "1.0", [], f"NOISE = {noise!r}\n".encode())]
        case _:
            return [_wheel(folder, name, "1.0", [])]


def _tagged(file: Path, platform: str) -> Path:
    """Return a copy of a wheel for one platform; its content has the platform in it, so that digests differ."""
    copy = file.with_name(re.sub(r"-py3-none-any", f"-py3-none-{platform}", file.name))
    # A comment of the archive changes its digest and nothing else: RECORD and WHEEL stay as they are.
    comment = platform.encode()
    content = file.read_bytes()
    copy.write_bytes(content[:-2] + len(comment).to_bytes(2, "little") + comment)
    return copy
