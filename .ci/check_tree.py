"""What no other tool checks: hosts in locks, paths of one machine, one version everywhere, and plain words."""

import ast
import io
import re
import subprocess
import sys
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# A lock with a URL or an option works only where that host is reached; one without hashes locks nothing.
FOREIGN_IN_LOCK = re.compile(r"://|^\s*-(?!-hash=)", re.MULTILINE)
_NAME = r"^[A-Za-z0-9][^\s;=\[]*(?:\[[^\]\n]*\])?"
PIN = re.compile(_NAME + r"==[^\n]*\\\n(?: +--hash=sha256:[0-9a-f]{64}(?: \\)?\n)+", re.MULTILINE)
REQUIREMENT = re.compile(r"^[A-Za-z0-9]", re.MULTILINE)

# Folders where people and agents keep a checkout. In a longer path or a URL the name may stand.
MACHINE_PATH = re.compile(r"(?<![\w.}>/-])/(?:root|work|home/\w+|Users/\w+)/")

VERSION = re.compile(r"^(\d+\.\d+\.\d+)(?:(a|b|rc)(\d+))?$")
PRE_RELEASES = {"a": "alpha", "b": "beta", "rc": "rc"}
# Where the version stands: the first in PEP 440's form, the others in SemVer's, as Helm and image tags have it.
PYTHON_VERSION = ("server/pywharf/__init__.py", r'^__version__ = "([^"]+)"$')
SEMANTIC_VERSIONS = [
    ("deploy/helm/pywharf/Chart.yaml", r"^version: (\S+)$"),
    ("deploy/helm/pywharf/Chart.yaml", r'^appVersion: "([^"]+)"$'),
    ("Dockerfile", r"^ARG VERSION=(\S+)$"),
    ("README.md", r"docker push registry\.example\.com/pywharf:(\S+)$"),
]

# Words that docstrings and comments of the product do without; what to write instead, by a pattern.
BANNED = {
    r"at once": "immediately, or concurrently",
    r"made so": "reconcile",
    r"pass(?:es|ed)? over": "ignore, or skip",
    r"(?:would|could) else": "otherwise would",
    r"none of ours": "not one of pywharf's",
    r"(?:no|any) more(?= |[.,;:])(?! than)": "no longer, or further",
    r"anew": "again, or new",
    r"who(?:so)?ever": "anybody who",
    r"(?:is|are|be|was|were) told": "get, or report",
    r"tells? of": "reports",
    r"glances?": "probe",
    r"patience": "timeout",
    r"nudges?d?": "notify, or annotate",
    r"belongs? no": "is no longer wanted",
}
_PATTERNS = [(re.compile(rf"\b{word}\b", re.IGNORECASE), better) for word, better in BANNED.items()]
PLAIN = re.compile(r"^(?:server|operator)/.*\.py$")


def semantic_version(version: str) -> str:
    """Return the SemVer form of a PEP 440 version: 1.0.0rc1 is 1.0.0-rc.1. Raises ValueError for other forms."""
    matched = VERSION.match(version)
    if matched is None:
        msg = f"{version!r} is neither MAJOR.MINOR.PATCH nor a pre-release (aN, bN, rcN) of it"
        raise ValueError(msg)
    release, stage, number = matched.groups()
    return release if stage is None else f"{release}-{PRE_RELEASES[stage]}.{number}"


def version_faults(texts: dict[str, str]) -> list[str]:
    """Compare the versions in these texts, by file name: distribution, chart, application and image."""
    name, pattern = PYTHON_VERSION
    said = re.search(pattern, texts[name], re.MULTILINE)
    if said is None:
        return [f"{name}: no version"]
    try:
        wanted = semantic_version(said[1])
    except ValueError as error:
        return [f"{name}: {error}"]
    faults = []
    for place, other in SEMANTIC_VERSIONS:
        found = re.search(other, texts[place], re.MULTILINE)
        if found is None or found[1] != wanted:
            faults.append(f"{place}: the version is {found[1] if found else 'missing'}; {name} makes it {wanted}")
    return faults


def lock_faults(name: str, text: str) -> list[str]:
    faults = [f"{name}: URL or option in a lock: {found[0]!r}" for found in FOREIGN_IN_LOCK.finditer(text)]
    unhashed = len(REQUIREMENT.findall(text)) - len(PIN.findall(text))
    if unhashed:
        faults.append(f"{name}: {unhashed} requirements are not pinned with hashes")
    return faults


def path_faults(name: str, text: str) -> list[str]:
    return [
        f"{name}:{number}: names a path of one machine"
        for number, line in enumerate(text.splitlines(), start=1)
        if MACHINE_PATH.search(line)
    ]


def tracked() -> list[str]:
    """Files git has or would add; without git (an unpacked sdist) there is nothing to leak, so none."""
    if not (ROOT / ".git").exists():
        print("check_tree: not a git checkout; machine paths are not looked for")
        return []
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)  # noqa: S603
    return [name for name in listed.stdout.split("\0") if name]


def prose_of(source: str) -> list[tuple[int, str]]:
    """Return line and text of each comment, and of each string that stands alone: docstrings of anything."""
    tree = ast.parse(source)
    found = [
        (node.lineno, node.value.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    found += [(token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT]
    return sorted(found)


def word_faults(name: str, source: str) -> list[str]:
    """Name each banned word of a Python file, with its line and what to write instead."""
    return [
        f"{name}:{line}: {found[0]!r} in a docstring or comment; write: {better}"
        for line, text in prose_of(source)
        for pattern, better in _PATTERNS
        for found in pattern.finditer(text)
    ]


def main() -> int:
    faults: list[str] = []
    for lock in sorted((ROOT / "requirements").glob("*.txt")):
        faults += lock_faults(f"requirements/{lock.name}", lock.read_text(encoding="utf-8"))
    for name in tracked():
        path = ROOT / name
        if path.is_file() and not path.is_symlink():
            text = path.read_text(encoding="utf-8", errors="ignore")
            faults += path_faults(name, text)
            if PLAIN.match(name):
                faults += word_faults(name, text)
    places = [PYTHON_VERSION, *SEMANTIC_VERSIONS]
    faults += version_faults({name: (ROOT / name).read_text(encoding="utf-8") for name, _ in places})
    print(
        "\n".join(faults)
        or "check_tree: locks and tree name no host and no machine; one version stands in all; the words are plain"
    )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
