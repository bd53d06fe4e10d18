"""Programs of Go modules that the tests run, built once from pinned sources into a cache outside the checkout.

`python tests/support/cluster/build.py cluster lint` builds those sets and prints their folders. Any Python will do,
because only the standard library is used. Without a recent enough `go` it reports the reason.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).resolve().parents[2]
KUBERNETES = "v1.37.2"
_VERSION_FLAGS = " ".join(
    f"-X {package}.gitVersion={KUBERNETES}"
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
)
HINT = (
    "go 1.21 or later on the PATH: Debian's golang-go, or golang-go of its backports where the release's is older; "
    "it fetches the Go that go.mod names by itself, unless GOTOOLCHAIN=local forbids it"
)


class BuildError(Exception):
    """An error whose text says what to do."""


@dataclass(frozen=True)
class Programs:
    """A set of programs pinned by one go.mod."""

    module: Path
    """Folder with go.mod and go.sum."""
    packages: Mapping[str, str]
    """Package of each program by its file name."""
    linker_flags: str = "-s -w"


_COMMANDS = "k8s.io/kubernetes/cmd/"
CLUSTER = Programs(
    TESTS / "cluster",
    {
        "etcd": "go.etcd.io/etcd/server/v3",
        **{name: _COMMANDS + name for name in ("kube-apiserver", "kube-controller-manager", "kubectl")},
    },
    f"-s -w {_VERSION_FLAGS}",
)
NODE = Programs(
    TESTS / "cluster",
    {name: _COMMANDS + name for name in ("kube-scheduler", "kubelet", "kube-proxy")},
    CLUSTER.linker_flags,
)
_CONTAINERD = "github.com/containerd/containerd/v2/cmd/"
CONTAINERS = Programs(
    TESTS / "cluster" / "node",
    {
        **{name: _CONTAINERD + name for name in ("containerd", "containerd-shim-runc-v2", "ctr")},
        "pause": "pywharf.test/cluster/node/pause",
    },
)
COREDNS = Programs(TESTS / "cluster" / "node" / "coredns", {"coredns": "github.com/coredns/coredns"})
LINT = Programs(
    TESTS / "cluster" / "lint",
    {
        "kube-score": "github.com/zegl/kube-score/cmd/kube-score",
        "kubeconform": "github.com/yannh/kubeconform/cmd/kubeconform",
    },
)
HELM = Programs(TESTS / "cluster" / "helm", {"helm": "helm.sh/helm/v4/cmd/helm"})
HELM_DOCS = Programs(TESTS / "cluster" / "helm-docs", {"helm-docs": "github.com/norwoodj/helm-docs/cmd/helm-docs"})
VERSITYGW = Programs(TESTS / "cluster" / "versitygw", {"versitygw": "github.com/versity/versitygw/cmd/versitygw"})
SETS = {
    "cluster": CLUSTER,
    "node": NODE,
    "containers": CONTAINERS,
    "coredns": COREDNS,
    "lint": LINT,
    "helm": HELM,
    "helm-docs": HELM_DOCS,
    "versitygw": VERSITYGW,
}


def build(programs: Programs) -> Path:
    """Build the missing programs and return the folder of all. Concurrent callers build only once.

    Raises BuildError.
    """
    go = shutil.which("go")
    if go is None:
        raise BuildError(f"no go on the PATH; install {HINT}")
    folder = cache() / _key(go, programs) / "bin"
    with held(folder.parent):
        absent = {name: package for name, package in programs.packages.items() if not (folder / name).exists()}
        if absent:
            _build(go, programs, absent, folder)
    return folder


def cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "pywharf-test"


def _key(go: str, programs: Programs) -> str:
    sources = [programs.module / "go.mod", programs.module / "go.sum", *sorted(programs.module.glob("*/*.go"))]
    parts = [path.read_bytes() for path in sources]
    # Run in the module's folder, where go may switch to the version that go.mod names.
    parts += [_output([go, "env", "GOVERSION", "GOOS", "GOARCH"], programs.module).encode()]
    parts += [programs.linker_flags.encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the folder's lock within the context; other processes wait."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(go: str, programs: Programs, absent: Mapping[str, str], folder: Path) -> None:
    _say(f"building {', '.join(absent)} into {folder}: some minutes the first time")
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    options = ["-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags", programs.linker_flags]
    environment = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}
    with tempfile.TemporaryDirectory(dir=folder.parent) as unfinished:
        _output([go, "build", *options, "-o", f"{unfinished}/", *absent.values()], programs.module, environment)
        for name, package in absent.items():
            (Path(unfinished) / _file_of(package)).rename(folder / name)
    _say(f"built in {time.monotonic() - began:.0f} s")


def _file_of(package: str) -> str:
    """Return go's name for a package's program: the last part of its path that is not a version."""
    *_, before, last = package.split("/")
    return before if re.fullmatch(r"v\d+", last) else last


def _output(command: list[str], folder: Path, environment: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"{' '.join(command[:2])} failed in {folder.name}; needed is {HINT}.\n{done.stderr[-4000:]}")
    return done.stdout


def _say(text: str) -> None:
    sys.stderr.write(f"cluster_build: {text}\n")
    sys.stderr.flush()


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in SETS]
    if unknown or not names:
        _say(f"name some of {', '.join(SETS)}")
        return 2
    try:
        for name in names:
            sys.stdout.write(f"{build(SETS[name])}\n")
    except BuildError as error:
        _say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
