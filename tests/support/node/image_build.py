"""Images of the node tier as archives for `ctr images import`, built once and cached by a hash of their inputs.

Their base is a Debian made by debootstrap, so that no registry is needed. Building needs root, debootstrap and
buildah. `python tests/support/node/image_build.py` builds them and prints their paths.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]
IMAGE = "localhost/pywharf:test"
CLIENT_IMAGE = "localhost/pywharf-client:test"
PAUSE_IMAGE = "localhost/pause:test"
SUITE = "bookworm"
PACKAGES = "python3,python3-venv,ca-certificates"
KEPT = 4
"""Number of archives of one name that stay in the cache."""
EPOCH = "1767225600"
"""Every timestamp in the images, in Unix seconds."""
DOCKERFILE = CHECKOUT / "Dockerfile"
CLIENT_DOCKERFILE = CHECKOUT / "tests" / "e2e" / "client.Dockerfile"
_BASE_IMAGE = "localhost/base:test"
_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
_SOURCES = (
    ".dockerignore",
    "LICENSE",
    "README.md",
    "pyproject.toml",
    "requirements/build.txt",
    "requirements/runtime.txt",
    "server",
    "operator",
)
_CLIENT_SOURCES = ("requirements/clients.txt",)


class ImageError(Exception):
    """An error whose text says what to do."""


def base_archive() -> Path:
    """Return a tar of Debian's root file system."""
    key = _hash([SUITE.encode(), PACKAGES.encode(), _output("dpkg", "--print-architecture").encode()])
    return _made(f"base-{key}.tar", _debootstrap)


def image_archive() -> Path:
    """Return the image that the Dockerfile builds from this tree."""
    return _from_dockerfile("pywharf", DOCKERFILE, IMAGE, _SOURCES)


def client_archive() -> Path:
    """Return an image of Python with the locked clients: pip, uv, twine and more."""
    return _from_dockerfile("client", CLIENT_DOCKERFILE, CLIENT_IMAGE, _CLIENT_SOURCES)


def pause_archive(program: Path) -> Path:
    """Return an image that holds only `program`, which sleeps and reaps."""
    return _made(f"pause-{_hash([program.read_bytes()])}.tar", lambda path: _pause_image(path, program))


def build_image(path: Path, dockerfile: Path, tag: str, base: Path, sources: Sequence[str]) -> None:
    """Write an archive of the image; the temporary storage of the build is deleted."""
    with _buildah() as (buildah, folder):
        container = buildah("from", "scratch").strip()
        buildah("add", "--quiet", container, str(base), "/")
        buildah("commit", "--quiet", f"--timestamp={EPOCH}", container, _BASE_IMAGE)
        context = folder / "context"
        for source in sources:
            _copy(CHECKOUT / source, context / source)
        # Debian's pip trusts this file. It is this machine's, which may be behind a proxy; the image does not keep it.
        trust = [f"--volume={_AUTHORITIES}:{_AUTHORITIES}:ro"] if _AUTHORITIES.exists() else []
        buildah(
            "build",
            f"--file={dockerfile}",
            f"--tag={tag}",
            f"--timestamp={EPOCH}",
            f"--build-arg=BASE_IMAGE={_BASE_IMAGE}",
            "--isolation=chroot",
            "--network=host",
            "--ulimit=nofile=1024:1024",
            "--ulimit=nproc=1024:1024",
            *trust,
            str(context),
        )
        buildah("push", "--quiet", tag, f"oci-archive:{path}:{tag}")


def _from_dockerfile(name: str, dockerfile: Path, tag: str, sources: Sequence[str]) -> Path:
    base = base_archive()
    key = _hash([base.name.encode(), dockerfile.read_bytes(), *_contents(sources)])
    return _made(f"{name}-{key}.tar", lambda path: build_image(path, dockerfile, tag, base, sources))


def _pause_image(path: Path, program: Path) -> None:
    with _buildah() as (buildah, _):
        container = buildah("from", "scratch").strip()
        buildah("copy", "--quiet", container, str(program), "/pause")
        buildah("config", '--entrypoint=["/pause"]', "--user=65535:65535", container)
        buildah("commit", "--quiet", f"--timestamp={EPOCH}", container, PAUSE_IMAGE)
        buildah("push", "--quiet", PAUSE_IMAGE, f"oci-archive:{path}:{PAUSE_IMAGE}")


def _debootstrap(path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        root = Path(folder, "root")
        _output("debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(root))
        for waste in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale"):
            shutil.rmtree(root / waste, ignore_errors=True)
        _output("tar", "--sort=name", f"--mtime=@{EPOCH}", "--exclude=./dev/*", "-C", str(root), "-cf", str(path), ".")


@contextlib.contextmanager
def _buildah() -> Iterator[tuple[Callable[..., str], Path]]:
    """Yield a function that runs buildah with its own storage, and a folder for other files."""
    _needed("buildah")
    with tempfile.TemporaryDirectory(dir=_cache(), prefix="building-") as name:
        folder = Path(name)
        storage = ("--root", f"{folder}/storage", "--runroot", f"{folder}/run", "--storage-driver", "vfs")

        def buildah(*arguments: str) -> str:
            # Only commands that run something accept the flag --runtime.
            runtime = ("--runtime=runc",) if arguments[0] == "build" else ()
            return _output("buildah", *storage, arguments[0], *runtime, *arguments[1:])

        yield buildah, folder


def _made(name: str, make: Callable[[Path], None]) -> Path:
    """Return a cached file. Concurrent processes make it only once, and only a finished file gets its final name."""
    folder = _cache()
    path = folder / name
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            began = time.monotonic()
            unfinished = folder / f"{name}.{os.getpid()}.unfinished"
            unfinished.unlink(missing_ok=True)
            try:
                make(unfinished)
                unfinished.rename(path)
            finally:
                unfinished.unlink(missing_ok=True)
            _say(f"{name} made in {time.monotonic() - began:.0f} s")
        os.utime(path)
        _prune(folder, name.partition("-")[0])
    return path


def _prune(folder: Path, name: str) -> None:
    """Keep only the most recently used archives of that name."""
    used = sorted(folder.glob(f"{name}-*.tar"), key=lambda path: path.stat().st_mtime)
    for path in used[:-KEPT]:
        path.unlink(missing_ok=True)


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(base) if base else Path.home() / ".cache") / "pywharf-test" / "images"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _copy(source: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, to, ignore=shutil.ignore_patterns("__pycache__", "*.py[co]"))
    else:
        shutil.copy2(source, to)


def _contents(names: Sequence[str]) -> Iterator[bytes]:
    for name in names:
        path = CHECKOUT / name
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                yield str(file.relative_to(CHECKOUT)).encode()
                yield file.read_bytes()


def _hash(parts: Sequence[bytes]) -> str:
    return hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()[:16]


def _needed(program: str) -> None:
    if shutil.which(program) is None:
        raise ImageError(f"no {program} on the PATH; apt-get install {program}")


def _output(*command: str) -> str:
    _needed(command[0])
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ImageError(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done.stdout


def _say(text: str) -> None:
    sys.stderr.write(f"image_build: {text}\n")
    sys.stderr.flush()


def main() -> int:
    try:
        sys.stdout.write(f"{image_archive()}\n{client_archive()}\n")
    except ImageError as error:
        _say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
