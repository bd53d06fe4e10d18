"""The data that the servers serve: written quickly by pywharf's own codecs, and in plain folders for the others.

`small`: a team's 25 projects of four files (100 in all), a tiny wheel and one of 20 MB. `thousand`: one project of
1,000 files. `root`: 20,000 projects of five files (100,000 in all), of which pywharf needs only the index. pypiserver
reads the folder, which holds one empty file per project. `uploads`: nothing.
"""

import functools
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pywharf.core.filenames import METADATA_SUFFIX
from pywharf.core.model import File, Project
from pywharf.core.names import ProjectName, RepoName, normalize, parse_repo_name
from pywharf.core.toml_text import dumps
from pywharf.index.codecs import encode_index
from pywharf.index.sidecars import meta_of
from support.distributions import wheels as distributions

SECRET = "bench-secret"
UPLOAD_TIME = "2026-01-02T03:04:05.000000Z"
SMALL_PROJECTS = 25
PROJECTS = 20_000
FILES_EACH = 5
THOUSAND = 1_000
BIG_BYTES = 20_000_000
REPOS = tuple(parse_repo_name(name) for name in ("small", "thousand", "root", "uploads"))


@dataclass(frozen=True)
class Data:
    """The data's folders: `root` is pywharf's ROOT; `plain` has a folder of distributions per repo, for pypiserver."""

    root: Path
    plain: Path
    tiny: str
    big: str

    def index(self, repo: str, extension: str = "json") -> Path:
        return self.root / "cache" / repo / "storage" / f"index.{extension}"


def config(extension: str = "json", repos: Iterable[str] = REPOS) -> str:
    """Return the server's configuration for the repos."""
    table = '[{0}]\ntype = "file_system"\nread_secret = "r-{1}"\nwrite_secret = "{1}"\nindex_filename = "index.{2}"\n'
    return "\n".join(table.format(repo, SECRET, extension) for repo in repos)


def make(folder: Path) -> Data:
    """Create the data of all repos. Takes a few seconds."""
    root, plain = folder / "root", folder / "plain"
    for repo in REPOS:
        (plain / repo).mkdir(parents=True)
        (root / "cache" / repo / "storage").mkdir(parents=True)
    tiny = distributions.wheel(plain / "small", "tiny")
    big = distributions.wheel(plain / "small", "big", payload=b"#" + os.urandom(BIG_BYTES))
    for number in range(SMALL_PROJECTS):
        for version in ("1.0", "1.1"):
            distributions.wheel(plain / "small", f"small{number}", version)
            distributions.sdist(plain / "small", f"small{number}", version)
    for number in range(THOUSAND):
        distributions.wheel(plain / "thousand", "thousand", f"1.{number}")
    data = Data(root, plain, tiny.name, big.name)
    for stored in ("small", "thousand"):
        _store(data, parse_repo_name(stored))
    data.index("root").write_bytes(large_index("json"))
    for number in range(PROJECTS):
        (plain / "root" / _large_file(number, 0)).touch()
    return data


@functools.cache
def large_index(extension: str) -> bytes:
    """Return the index of 100,000 files that exist only in it."""
    files = {n: [_file(_large_file(n, version), 1000 + n) for version in range(FILES_EACH)] for n in range(PROJECTS)}
    return _index([Project(name=large_name(n), files=tuple(own)) for n, own in files.items()], f"index.{extension}")


def changed_index(extension: str, number: int) -> bytes:
    """Return the large index with Unix time `number` and with another version of one project's file."""
    content = large_index(extension)
    for old, new in ((b'"mtime":1,', b'"mtime":%d,' % number), (b"mtime = 1\n", b"mtime = %d\n" % number)):
        content = content.replace(old, new, 1)
    return content.replace(_large_file(1, 0).removesuffix(".whl").encode(), b"project_00001-2.%d-py3-none-any" % number)


def large_name(number: int) -> ProjectName:
    return normalize(f"project-{number:05d}")


def uploads(folder: Path, count: int) -> Iterator[tuple[str, str, str, bytes]]:
    """Yield the name, version, file name and content of tiny wheels, four per project."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        name, version = f"upload-{number // 4:05d}", f"1.{number % 4}"
        path = distributions.wheel(folder, name, version)
        yield name, version, path.name, path.read_bytes()
        path.unlink()


def projects_apart(data: Data, repo: str, folder: Path) -> Path:
    """Link the repo's plain files into one folder per project, as simpleindex needs. Returns the folder of these."""
    for path in (data.plain / repo).iterdir():
        own = folder / path.name.partition("-")[0]
        own.mkdir(parents=True, exist_ok=True)
        (own / path.name).hardlink_to(path)
    return folder


def fresh(folder: Path) -> Path:
    """Create the folder, or empty it. Returns it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _store(data: Data, repo: RepoName) -> None:
    """Store the repo's plain folder as a file_system repo: hard links, sidecars and an index."""
    storage = data.index(repo).parent
    projects: dict[ProjectName, list[File]] = {}
    for path in sorted((data.plain / repo).iterdir()):
        name = normalize(path.name.partition("-")[0])
        version = path.name.split("-")[1].removesuffix(".tar.gz")
        content = path.read_bytes()
        raw = distributions.metadata(name, version)
        is_wheel = path.suffix == ".whl"
        file = File(
            filename=path.name,
            sha256=hashlib.sha256(content).hexdigest(),
            size=len(content),
            upload_time=UPLOAD_TIME,
            requires_python=">=3.8",
            metadata_sha256=hashlib.sha256(raw).hexdigest() if is_wheel else None,
        )
        folder = storage / name
        folder.mkdir(exist_ok=True)
        (folder / path.name).hardlink_to(path)
        (folder / f"{path.name}.meta").write_text(dumps(meta_of(name, file)))
        if is_wheel:
            (folder / f"{path.name}{METADATA_SUFFIX}").write_bytes(raw)
        projects.setdefault(name, []).append(file)
    listed = [Project(name=name, files=tuple(files)) for name, files in sorted(projects.items())]
    data.index(repo).write_bytes(_index(listed, "index.json"))


def _index(projects: Iterable[Project], filename: str) -> bytes:
    return encode_index(filename, 1, projects, backend_type="file_system", location=_location)


def _large_file(number: int, version: int) -> str:
    return f"project_{number:05d}-1.{version}-py3-none-any.whl"


def _file(filename: str, size: int) -> File:
    return File(
        filename=filename,
        sha256=hashlib.sha256(filename.encode()).hexdigest(),
        size=size,
        upload_time=UPLOAD_TIME,
        requires_python=">=3.8",
        metadata_sha256=hashlib.sha256(b"metadata of " + filename.encode()).hexdigest(),
    )


def _location(project: ProjectName, file: File) -> tuple[str, str]:
    return "package_path", f"/srv/pywharf/cache/root/storage/{project}/{file.filename}"
