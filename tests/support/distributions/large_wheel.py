"""A wheel of any size that is generated while it is sent and never held whole."""

import base64
import hashlib
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from support.distributions.wheels import metadata, record_hash

_BLOCK = bytes(range(256)) * 4096


@dataclass
class LargeWheel:
    """A wheel with one stored member of `payload_bytes`. `size` and `sha256` are set once all bytes were generated."""

    name: str
    payload_bytes: int
    version: str = "1.0"
    size: int = 0
    sha256: str = ""

    @property
    def filename(self) -> str:
        return f"{self.name}-{self.version}-py3-none-any.whl"

    def pieces(self) -> Iterator[bytes]:
        """Yield the file's bytes in order."""
        digest = hashlib.sha256()
        for piece in self._archive():
            self.size += len(piece)
            digest.update(piece)
            yield piece
        self.sha256 = digest.hexdigest()

    def _archive(self) -> Iterator[bytes]:
        dist_info = f"{self.name}-{self.version}.dist-info"
        digest = hashlib.sha256()
        out = _Collected()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
            with archive.open(zipfile.ZipInfo(f"{self.name}/data.bin"), "w", force_zip64=True) as member:
                left = self.payload_bytes
                while left:
                    block = _BLOCK[:left]
                    member.write(block)
                    digest.update(block)
                    left -= len(block)
                    yield from out.taken()
            shown = base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()
            others = {
                "METADATA": metadata(self.name, self.version),
                "WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            }
            record = f"{self.name}/data.bin,sha256={shown},{self.payload_bytes}\n"
            record += "".join(f"{dist_info}/{name},{record_hash(body)},{len(body)}\n" for name, body in others.items())
            others["RECORD"] = (record + f"{dist_info}/RECORD,,\n").encode()
            for member_name, content in others.items():
                archive.writestr(zipfile.ZipInfo(f"{dist_info}/{member_name}"), content)
        yield from out.taken()


class _Collected(io.RawIOBase):
    """A stream that holds written bytes until they are taken. It cannot seek, so zipfile never goes back."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        self._parts.append(bytes(content))
        return len(content)

    def taken(self) -> list[bytes]:
        parts, self._parts = self._parts, []
        return parts
