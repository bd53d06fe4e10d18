"""Packages in a folder: `<ROOT>/cache/<name>/storage/<project>/<file>` with `<file>.meta` beside it.

The layout is the original's. Beside `storage` lie the journal, the staging folder, the writers' lock and the owner's
name; `<file>.metadata` holds a file's core metadata.
"""

import asyncio
import hashlib
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import ParamSpec, TypeVar

import msgspec

from pywharf.backends.durable import (
    fsync_file,
    fsync_folder,
    locked,
    place_new,
    translated,
    write_atomically,
    write_temporary,
)
from pywharf.backends.file_journal import FileJournal
from pywharf.backends.registration import BackendType, OpenBackend
from pywharf.config import FileSystemSpec
from pywharf.core.archive import read_metadata
from pywharf.core.errors import (
    DataOwnedByOtherError,
    FileExistsInRepoError,
    IndexConflictError,
    InvalidConfigError,
    InvalidInputError,
    NotFoundError,
)
from pywharf.core.filenames import METADATA_SUFFIX, extension_of, parse_upload_filename
from pywharf.core.metadata import parse_metadata
from pywharf.core.model import File, Project
from pywharf.core.names import ProjectName, normalize
from pywharf.core.toml_text import dumps
from pywharf.index.codecs import file_from_meta, meta_of, parse_meta, parse_status
from pywharf.index.ports import (
    UNCHANGED,
    Content,
    JournalEntry,
    JournalRead,
    LocalContent,
    Progress,
    ScannedProject,
    StoredIndex,
    Unchanged,
    Upload,
)

META_SUFFIX = ".meta"
STATUS_FILENAME = ".status.toml"
"""In a project's folder: its status (PEP 792)."""
_LEFTOVER_AGE_S = 24 * 3600
"""After this long no upload is still running, so its temporary files are a crash's."""

_logger = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")


class FileSystemBackend:
    """One repo's folder. Any number of servers and jobs may use it at once."""

    def __init__(self, folder: Path, index_name: str, owner: str | None) -> None:
        self._folder = folder
        self._storage = folder / "storage"
        self._staging = folder / "staging"
        self._lock = folder / "lock"
        self._journal = FileJournal(folder / "journal")
        stem, _, extension = index_name.rpartition(".")
        self._index_names = (index_name, f"{stem}.json" if extension == "toml" else f"{stem}.toml")
        self._owner = owner
        self._prepared = False

    @property
    def staging_folder(self) -> Path:
        """See Backend."""
        return self._staging

    @property
    def poll_interval_s(self) -> float:
        """See Backend."""
        return 1.0

    async def read_index(self, known: str | None = None) -> StoredIndex | None | Unchanged:
        """See Backend."""
        return await self._call(self._read_index, known)

    async def write_index(self, content: bytes, *, expected: str | None) -> str:
        """See Backend."""
        return await self._call(self._write_index, content, expected)

    def index_location(self, project: ProjectName, file: File) -> tuple[str, str] | None:
        """See Backend."""
        return "package_path", str(self._storage / project / file.filename)

    async def read_journal(self, cursor: str | None = None) -> JournalRead:
        """See Backend."""
        return await self._call(self._journal.read, cursor)

    async def fold_journal(self, cursor: str) -> None:
        """See Backend."""
        await self._call(self._journal.fold, cursor)

    async def scan(self, progress: Progress) -> AsyncIterator[ScannedProject]:
        """See Backend."""
        scanned = 0
        for name in await self._call(self._project_names):
            progress(scanned, name)
            found = await self._call(self._scan_project, name)
            if found is not None:
                scanned += len(found.project.files)
                yield found
        await self._call(self._remove_leftovers)

    async def find_project(self, name: ProjectName) -> Project | None:
        """See Backend."""
        return await self._call(self._find_project, name)

    async def publish(self, upload: Upload) -> None:
        """See Backend."""
        await self._call(self._publish, upload)

    async def open_file(self, project: ProjectName, file: File) -> Content:
        """See Backend."""
        return LocalContent(self._path(project, file.filename))

    async def read_metadata(self, project: ProjectName, file: File) -> bytes:
        """See Backend."""
        raw = await self._call(_read_if_there, self._path(project, file.filename + METADATA_SUFFIX))
        if raw is None:
            msg = f"The storage holds no core metadata of {file.filename!r}."
            raise NotFoundError(msg)
        return raw

    async def aclose(self) -> None:
        """See Backend. Nothing is held open."""

    async def _call(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        def call() -> T:
            with translated():
                if not self._prepared:
                    self._prepare()
                return function(*args, **kwargs)

        return await asyncio.to_thread(call)

    def _prepare(self) -> None:
        self._storage.mkdir(parents=True, exist_ok=True)
        self._staging.mkdir(exist_ok=True)
        if self._owner is not None:
            self._claim(self._owner)
        self._prepared = True

    def _claim(self, owner: str) -> None:
        path = self._folder / "owner"
        with locked(self._lock):
            recorded = path.read_text().strip() if path.exists() else None
            if recorded is None:
                write_atomically(path, f"{owner}\n".encode())
        if recorded not in {None, owner}:
            msg = (
                f"The stored packages belong to {recorded!r}, not to {owner!r}. Choose another repo name, or remove "
                "the file 'owner' in the repo's folder to hand them over."
            )
            raise DataOwnedByOtherError(msg)

    def _path(self, project: ProjectName, filename: str) -> Path:
        if "/" in filename or filename.startswith("."):
            msg = f"{filename!r} is not a file of {project!r}."
            raise NotFoundError(msg)
        return self._storage / project / filename

    def _read_index(self, known: str | None) -> StoredIndex | None | Unchanged:
        for filename in self._index_names:
            try:
                file = (self._storage / filename).open("rb")
            except FileNotFoundError:
                continue
            with file:
                version = _version(filename, os.fstat(file.fileno()))
                return UNCHANGED if version == known else StoredIndex(filename, file.read(), version)
        return None

    def _write_index(self, content: bytes, expected: str | None) -> str:
        with locked(self._lock):
            current = self._read_index(expected)
            if current is not UNCHANGED and not (current is None and expected is None):
                msg = "The index was replaced by another writer; run update_index again."
                raise IndexConflictError(msg)
            filename = self._index_names[0]
            return _version(filename, write_atomically(self._storage / filename, content))

    def _project_names(self) -> list[ProjectName]:
        with os.scandir(self._storage) as entries:
            names = sorted(e.name for e in entries if not e.name.startswith(".") and e.is_dir())
        projects = []
        for name in names:
            try:
                normal = normalize(name)
            except InvalidInputError:
                normal = None
            if normal == name:
                projects.append(normal)
            else:
                _logger.warning("The folder %r is passed over: its name is not a normalized project name.", name)
        return projects

    def _find_project(self, name: ProjectName) -> Project | None:
        listed = self._listing(name)
        if listed is None:
            return None
        files = []
        for filename in _distributions(listed):
            try:
                files.append(self._recorded(name, filename))
            except (FileNotFoundError, InvalidConfigError, KeyError):
                continue  # not published yet, or for update_index to mend
        status, reason = self._status(name, listed)
        return Project(name=name, files=tuple(files), status=status, status_reason=reason) if files else None

    def _listing(self, name: ProjectName) -> set[str] | None:
        try:
            return set(os.listdir(self._storage / name))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _status(self, name: ProjectName, listed: set[str]) -> tuple[str, str | None]:
        if STATUS_FILENAME not in listed:
            return "active", None
        path = self._storage / name / STATUS_FILENAME
        return parse_status(path.read_text("utf-8"), f"{name}/{STATUS_FILENAME}")

    def _recorded(self, name: ProjectName, filename: str) -> File:
        """A file as its sidecar says, with what the original did not record read from the storage."""
        path = self._storage / name / filename
        sidecar = path.with_name(filename + META_SUFFIX)
        file = file_from_meta(filename, parse_meta(sidecar.read_text("utf-8"), f"{name}/{sidecar.name}"))
        status = path.stat()
        if file.size is not None and file.size != status.st_size:
            msg = f"{name}/{filename} has {status.st_size} bytes, its record says {file.size}."
            raise InvalidConfigError(msg)
        return msgspec.structs.replace(
            file, size=status.st_size, upload_time=file.upload_time or rfc3339(status.st_mtime)
        )

    def _scan_project(self, name: ProjectName) -> ScannedProject | None:
        listed = self._listing(name)
        if listed is None:
            return None
        files: list[File] = []
        problems: list[str] = []
        for filename in _distributions(listed):
            try:
                try:
                    file = self._recorded(name, filename)
                except FileNotFoundError:
                    file = self._adopt(name, filename)
                files.append(self._with_metadata(name, file, listed))
            except FileNotFoundError:
                continue  # removed meanwhile
            except (InvalidConfigError, InvalidInputError, UnicodeDecodeError) as error:
                problems.append(f"{name}/{filename} is left out: {error}")
        try:
            status, reason = self._status(name, listed)
        except (InvalidConfigError, UnicodeDecodeError) as error:
            status, reason = "active", None
            problems.append(str(error))
        if not files and status == "active" and not problems:
            return None
        project = Project(name=name, files=tuple(files), status=status, status_reason=reason)
        return ScannedProject(project, tuple(problems))

    def _adopt(self, name: ProjectName, filename: str) -> File:
        """Check and record a file that was put there without a sidecar, by hand or by a crashed upload."""
        path = self._storage / name / filename
        parsed = parse_upload_filename(filename)
        if parsed.project != name:
            msg = f"it belongs into the folder {parsed.project!r}."
            raise InvalidConfigError(msg)
        with path.open("rb") as stream:
            raw = read_metadata(stream, parsed)
            stream.seek(0)
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            status = os.fstat(stream.fileno())
        metadata = parse_metadata(raw, parsed)
        file = File(
            filename=filename,
            sha256=digest,
            size=status.st_size,
            upload_time=rfc3339(status.st_mtime),
            requires_python=metadata.requires_python,
            metadata_sha256=hashlib.sha256(raw).hexdigest(),
        )
        write_atomically(path.with_name(filename + METADATA_SUFFIX), raw)
        write_atomically(path.with_name(filename + META_SUFFIX), dumps(meta_of(name, file)).encode())
        return file

    def _with_metadata(self, name: ProjectName, file: File, listed: set[str]) -> File:
        """The file with the digest of its core metadata, which the original did not keep."""
        if file.metadata_sha256 is not None or not file.filename.endswith(".whl"):
            return file
        path = self._storage / name / (file.filename + METADATA_SUFFIX)
        if path.name in listed:
            raw = path.read_bytes()
        else:
            try:
                parsed = parse_upload_filename(file.filename)
                with (self._storage / name / file.filename).open("rb") as stream:
                    raw = read_metadata(stream, parsed)
            except InvalidInputError:
                return file  # served as the original did, without
            write_atomically(path, raw)
        return msgspec.structs.replace(file, metadata_sha256=hashlib.sha256(raw).hexdigest())

    def _publish(self, upload: Upload) -> None:
        folder = self._storage / upload.project
        final = folder / upload.file.filename
        new_folder = not folder.exists()
        folder.mkdir(exist_ok=True)
        sidecars = {
            final.with_name(final.name + META_SUFFIX): dumps(meta_of(upload.project, upload.file)).encode(),
        }
        if upload.file.metadata_sha256 is not None:
            sidecars[final.with_name(final.name + METADATA_SUFFIX)] = upload.metadata
        temporaries: dict[Path, Path] = {}
        placed = False
        try:
            if final.exists():
                raise FileExistsError
            fsync_file(upload.staged)
            for path, content in sidecars.items():
                temporaries[path] = write_temporary(folder, content)
            place_new(upload.staged, final, self._lock)
            placed = True
            for path, temporary in temporaries.items():
                temporary.replace(path)
            fsync_folder(folder)
            if new_folder:
                fsync_folder(self._storage)
            self._journal.append(JournalEntry(upload.project, upload.file))
        except FileExistsError as error:
            _discard(temporaries.values())
            msg = f"File already exists: {upload.file.filename}"
            raise FileExistsInRepoError(msg) from error
        except BaseException:
            _discard([*temporaries.values(), *([*sidecars, final] if placed else [])])
            raise

    def _remove_leftovers(self) -> None:
        oldest = time.time() - _LEFTOVER_AGE_S
        leftovers = [*self._staging.iterdir(), *self._folder.glob(".*.tmp"), *self._storage.glob(".*.tmp"), *self._storage.glob("*/.*.tmp")]
        for path in leftovers:
            try:
                if path.stat().st_mtime < oldest:
                    path.unlink()
                    _logger.info("Removed %s, which an interrupted upload had left.", path.name)
            except FileNotFoundError:
                continue


def _version(filename: str, status: os.stat_result) -> str:
    return f"{filename}:{status.st_ino}:{status.st_mtime_ns}:{status.st_size}"


def _distributions(listed: set[str]) -> list[str]:
    return sorted(name for name in listed if not name.startswith(".") and extension_of(name) is not None)


def _read_if_there(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _discard(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def rfc3339(seconds: float) -> str:
    """Unix seconds as the Simple API writes times (PEP 700)."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _open(request: OpenBackend) -> FileSystemBackend:
    spec = request.spec
    assert isinstance(spec, FileSystemSpec)  # noqa: S101 - the registration pairs them
    return FileSystemBackend(request.root / "cache" / request.name, spec.index_name, spec.owner)


BACKEND = BackendType(spec=FileSystemSpec, open=_open)
