"""Which wheels are for a platform and a Python that a person names."""

import re
from collections.abc import Iterable

import msgspec
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import InvalidVersion

_PLATFORM = re.compile(
    r"(?P<family>manylinux|musllinux|linux|macosx|macos|windows|win)"
    r"(?P<of_year>1|2010|2014)?(?:_(?P<major>\d{1,3})_(?P<minor>\d{1,3}))?(?:_?(?P<arch>32|[a-z][a-z0-9_]{1,20}))?\Z"
)
_FAMILIES = {"linux": "manylinux", "macos": "macosx", "windows": "win"}
_GLIBC_OF_YEAR = {"1": (2, 5), "2010": (2, 12), "2014": (2, 17)}
_ARCHES = {
    "manylinux": {"arm64": "aarch64", "amd64": "x86_64"},
    "musllinux": {"arm64": "aarch64", "amd64": "x86_64"},
    "macosx": {"aarch64": "arm64", "amd64": "x86_64"},
    "win": {"x86_64": "amd64", "aarch64": "arm64", "x86": "32"},
}
_MACOS_UNIVERSAL = {
    "universal2": {"x86_64", "arm64"},
    "universal": {"x86_64", "i386"},
    "intel": {"x86_64", "i386"},
    "fat64": {"x86_64"},
    "fat3": {"x86_64", "i386"},
    "fat": {"i386"},
}
_PYTHON = re.compile(r"3\.(?P<minor>\d{1,2})(?P<threads>t?)\Z")


class Platform(msgspec.Struct, frozen=True):
    """A platform, as far as it is named: without an architecture or a version, all of them."""

    family: str
    """`manylinux` (with glibc), `musllinux`, `macosx` or `win`."""
    arch: str | None = None
    version: tuple[int, int] | None = None
    """The newest version of glibc, musl or macOS that a wheel may need."""

    def runs(self, other: "Platform") -> bool:
        """Return whether a wheel's platform tag fits."""
        if self.family != other.family:
            return False
        if self.version is not None and other.version is not None and other.version > self.version:
            return False
        return (
            self.arch is None
            or other.arch is None
            or self.arch == other.arch
            or self.arch in _MACOS_UNIVERSAL.get(other.arch, ())
        )


class Target(msgspec.Struct, frozen=True):
    """What the files are for: any of the platforms, with any of the Pythons. Empty: all."""

    platforms: tuple[Platform, ...] = ()
    pythons: frozenset[tuple[str, str]] | None = None
    """Interpreter and ABI of the wheels that the Pythons can use; None: all."""

    def fits(self, filename: str) -> bool:
        """Return whether a file is for the target. Only wheels are for certain ones; an unreadable name fits."""
        if not filename.endswith(".whl") or (not self.platforms and self.pythons is None):
            return True
        try:
            _, _, _, tags = parse_wheel_filename(filename)
        except (InvalidWheelFilename, InvalidVersion):
            return True
        return any(self._fits(tag) for tag in tags)

    def _fits(self, tag: Tag) -> bool:
        if self.pythons is not None and (tag.interpreter, tag.abi) not in self.pythons:
            return False
        if not self.platforms or tag.platform == "any":
            return True
        platform = parse_platform(tag.platform)
        return platform is not None and any(wanted.runs(platform) for wanted in self.platforms)


def parse_platform(text: str) -> Platform | None:
    """Parse a wheel's platform tag or a shorter name: `linux`, `linux_x86_64`, `manylinux_2_28_x86_64`, `win_amd64`.

    Returns:
        None for a text of another form. `linux` means Linux with glibc.
    """
    found = _PLATFORM.match(text.strip().lower().replace("-", "_").replace(".", "_"))
    if found is None:
        return None
    family = _FAMILIES.get(found["family"], found["family"])
    version = _GLIBC_OF_YEAR.get(found["of_year"] or "")
    if found["of_year"] is not None and (family != "manylinux" or found["major"] is not None):
        return None
    if found["major"] is not None:
        version = (int(found["major"]), int(found["minor"]))
    arch = found["arch"]
    return Platform(family, None if arch is None else _ARCHES[family].get(arch, arch), version)


def tags_of_python(text: str) -> Iterable[tuple[str, str]] | None:
    """Return interpreter and ABI of the wheels that a CPython such as `3.12` or `3.14t` can use.

    Returns:
        None for a text of another form.
    """
    found = _PYTHON.match(text.strip())
    if found is None:
        return None
    version = (3, int(found["minor"]))
    abi = f"cp3{version[1]}{found['threads']}"
    tags = [
        *cpython_tags(version, abis=[abi], platforms=["any"]),
        *compatible_tags(version, f"cp3{version[1]}", platforms=["any"]),
    ]
    return {(tag.interpreter, tag.abi) for tag in tags}
