"""Which wheels are for the platforms and Pythons that a person names."""

import pytest

from pywharf.lock_files.platforms import Platform, Target, parse_platform, tags_of_python

GLIBC = "a-1-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"
NEW_GLIBC = "a-1-cp312-cp312-manylinux_2_28_x86_64.whl"
MUSL = "a-1-cp312-cp312-musllinux_1_2_x86_64.whl"
ARM = "a-1-cp312-cp312-manylinux_2_28_aarch64.whl"
PLAIN = "a-1-cp312-cp312-linux_x86_64.whl"
MAC = "a-1-cp312-cp312-macosx_11_0_arm64.whl"
UNIVERSAL = "a-1-cp312-cp312-macosx_10_9_universal2.whl"
WIN = "a-1-cp312-cp312-win_amd64.whl"
WIN32 = "a-1-cp312-cp312-win32.whl"
PURE = "a-1-py2.py3-none-any.whl"
STABLE = "a-1-cp39-abi3-win_amd64.whl"
OLD = "a-1-cp311-cp311-win_amd64.whl"
FREE = "a-1-cp314-cp314t-win_amd64.whl"
OTHER = "a-1-cp312-cp312-pyodide_2024_0_wasm32.whl"
SDIST = "a-1.tar.gz"
ODD = "odd-name.whl"
ALL = (GLIBC, NEW_GLIBC, MUSL, ARM, PLAIN, MAC, UNIVERSAL, WIN, WIN32, PURE, STABLE, OLD, FREE, OTHER, SDIST, ODD)
ALWAYS = {PURE, SDIST, ODD}


def target(platforms: str = "", pythons: str = "") -> Target:
    found = [parse_platform(text) for text in platforms.split()]
    tags = [tags_of_python(text) for text in pythons.split()]
    assert None not in found
    return Target(
        tuple(p for p in found if p is not None),
        frozenset(pair for of_one in tags for pair in of_one or ()) if tags else None,
    )


@pytest.mark.parametrize(
    ("platforms", "fitting"),
    [
        ("linux", {GLIBC, NEW_GLIBC, ARM, PLAIN}),
        ("linux_x86_64", {GLIBC, NEW_GLIBC, PLAIN}),
        ("Linux-AMD64", {GLIBC, NEW_GLIBC, PLAIN}),
        ("manylinux_2_27_x86_64", {GLIBC, PLAIN}),
        ("manylinux2014_x86_64", {GLIBC, PLAIN}),
        ("linux_arm64", {ARM}),
        ("musllinux", {MUSL}),
        ("macos_arm64", {MAC, UNIVERSAL}),
        ("macosx_10_15_x86_64", {UNIVERSAL}),
        ("windows", {WIN, WIN32, STABLE, OLD, FREE}),
        ("win32", {WIN32}),
        ("win_x86_64 musllinux_1_2_x86_64", {WIN, STABLE, OLD, FREE, MUSL}),
        ("musllinux_1_1_x86_64", set()),
    ],
)
def test_platforms(platforms: str, fitting: set[str]) -> None:
    assert {name for name in ALL if target(platforms).fits(name)} == fitting | ALWAYS


@pytest.mark.parametrize(
    ("pythons", "fitting"),
    [
        ("3.12", {WIN, STABLE}),
        ("3.11", {OLD, STABLE}),
        ("3.8", set()),
        ("3.14t", {FREE}),
        ("3.11 3.12", {OLD, WIN, STABLE}),
    ],
)
def test_pythons(pythons: str, fitting: set[str]) -> None:
    found = target("win_amd64", pythons)
    assert {name for name in ALL if found.fits(name)} == fitting | ALWAYS


def test_without_a_choice_everything_fits() -> None:
    assert all(map(Target().fits, ALL))


@pytest.mark.parametrize(
    "text", ["", "solaris", "linux_2", "any", "manylinux2014_2_17_x86_64", "musllinux2014", "x" * 10_000, "win_" * 999]
)
def test_what_is_no_platform(text: str) -> None:
    assert parse_platform(text) is None


def test_a_platform() -> None:
    assert parse_platform("manylinux1_i686") == Platform("manylinux", "i686", (2, 5))


@pytest.mark.parametrize("text", ["", "3", "2.7", "3.x", "cp312", "3.123", "3.12.1", "3." + "1" * 9999])
def test_what_is_no_python(text: str) -> None:
    assert tags_of_python(text) is None
