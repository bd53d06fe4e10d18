"""Small but complete wheels and sdists, made in memory."""

import base64
import gzip
import hashlib
import io
import tarfile
import zipfile
from pathlib import Path


def metadata(name: str, version: str, requires_python: str | None = ">=3.8", extra: str = "") -> bytes:
    """Return core metadata, version 2.1."""
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", "Summary: made for a test"]
    if requires_python is not None:
        lines.append(f"Requires-Python: {requires_python}")
    return ("\n".join(lines) + "\n" + extra + "\n").encode()


def wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    *,
    payload: bytes = b"VALUE = 1\n",
    requires_python: str | None = ">=3.8",
    extra_metadata: str = "",
) -> Path:
    """Write a wheel that pip can install: one module with `payload` as its text."""
    module = name.replace("-", "_").replace(".", "_").lower()
    dist_info = f"{module}-{version}.dist-info"
    members = {
        f"{module}.py": payload,
        f"{dist_info}/METADATA": metadata(name, version, requires_python, extra_metadata),
        f"{dist_info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},{record_hash(content)},{len(content)}\n" for path, content in members.items())
    members[f"{dist_info}/RECORD"] = (record + f"{dist_info}/RECORD,,\n").encode()
    path = folder / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for member, content in members.items():
            archive.writestr(zipfile.ZipInfo(member), content)
    return path


def sdist(folder: Path, name: str, version: str = "1.0", *, members: dict[str, bytes] | None = None) -> Path:
    """Write an sdist (.tar.gz) with PKG-INFO and pyproject.toml; `members` are added by their full paths."""
    stem = f"{name.replace('-', '_').lower()}-{version}"
    contents = {
        f"{stem}/PKG-INFO": metadata(name, version),
        f"{stem}/pyproject.toml": b'[build-system]\nrequires = []\nbuild-backend = "none"\n',
        **(members or {}),
    }
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for member, content in contents.items():
            info = tarfile.TarInfo(member)
            info.size = len(content)
            info.mtime = 1_700_000_000  # build backends reject times before 1980, zip's earliest
            archive.addfile(info, io.BytesIO(content))
    path = folder / f"{stem}.tar.gz"
    path.write_bytes(gzip.compress(packed.getvalue(), mtime=0))
    return path


def record_hash(content: bytes) -> str:
    """Return the hash in the form of a wheel's RECORD."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"sha256={digest}"
