"""Parse a pylock.toml (PEP 751)."""

from packaging.pylock import PackageSdist, PackageWheel, Pylock, PylockValidationError

from pywharf.core import toml_text
from pywharf.core.errors import InvalidConfigError
from pywharf.lock_files.pins import Draft, Lock, LockedFile, filename_of


def parse_pylock(text: str, source: str) -> Lock:
    """Parse a pylock.toml. Raises InvalidConfigError that names `source`."""
    try:
        read = Pylock.from_dict(toml_text.loads(text, source))
    except (PylockValidationError, ValueError) as error:
        raise InvalidConfigError(f"{source} is not a pylock.toml: {error}.") from error
    draft = Draft(source)
    for package in read.packages:
        if package.directory is not None:
            continue
        files: tuple[PackageSdist | PackageWheel, ...] = tuple(package.wheels or ())
        files += () if package.sdist is None else (package.sdist,)
        if not files or package.version is None:
            archive = package.archive
            name = None if archive is None else filename_of(archive.url or archive.path or "")
            draft.direct(package.name, package.name, *(() if name is None else (LockedFile(filename=name),)))
            continue
        draft.pin(package.name, str(package.version), tuple(map(_locked, files)), package.index)
    return draft.lock()


def _locked(file: PackageSdist | PackageWheel) -> LockedFile:
    digest = file.hashes.get("sha256")
    return LockedFile(
        filename=file.name or filename_of(file.url or file.path or ""),
        sha256=None if digest is None else digest.lower(),
        upload_time=None if file.upload_time is None else file.upload_time.isoformat(),
        url=file.url,
        size=file.size,
    )
