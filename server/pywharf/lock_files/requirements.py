"""Parse a requirements file with pinned versions, with or without hashes."""

import re
from collections.abc import Iterator

from packaging.requirements import InvalidRequirement, Requirement

from pywharf.lock_files.pins import Draft, Lock, LockedFile, filename_of, sha256_of

_COMMENT = re.compile(r"(?:^|\s)#.*$")
_OPTION = re.compile(r"\s--?[A-Za-z]")
_HASH = re.compile(r"--hash[=\s]\s*(\S+)")
_OTHER_FILE = re.compile(r"(-r|--requirement|-c|--constraint)[=\s]*")
_NOT_AN_INDEX_S = re.compile(r"\.{0,2}/|[A-Za-z][A-Za-z0-9+.-]*:|\S+\.(whl|zip|tar\.gz)(\s|$)")
_EDITABLE = re.compile(r"(-e|--editable)[=\s]")
_UNDERSTOOD = re.compile(
    r"((-i|--index-url|--extra-index-url|--trusted-host|--no-binary|--only-binary)(\s+|\s*=\s*)[^\s-]\S*"
    r"|--pre|--require-hashes|--prefer-binary|--no-index)\s*\Z"
)
"""The options that change neither which releases are pinned nor where to read them."""
_MAX_LINE = 1024 * 1024
_MAX_REQUIREMENT = 4096
"""Characters of a requirement without its options."""


def parse_requirements(text: str, source: str) -> Lock:
    """Parse a requirements file. Raises InvalidConfigError that names `source`."""
    draft = Draft(source)
    for number, line in _lines(text):
        if len(line) > _MAX_LINE:
            draft.fail(f"line {number} is over {_MAX_LINE} characters.")
        if _OTHER_FILE.match(line):
            draft.note(line, "names another file, which has to be given as well")
        elif not line.startswith("-"):
            _pin(draft, number, line)
        elif _EDITABLE.match(line):
            draft.note(line, "does not come from an index")
        elif not _UNDERSTOOD.match(line):
            draft.note(line, "is an option that is not followed")
    return draft.lock()


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield the logical lines with their numbers, without comments; empty ones are left out."""
    parts: list[str] = []
    first = 1
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        first = first if parts else number
        is_comment = line.lstrip().startswith("#")
        if line.endswith("\\") and not is_comment:
            parts.append(line[:-1])
            continue
        joined = _COMMENT.sub("", "".join([*parts, line])).strip()
        parts = []
        if joined:
            yield first, joined


def _pin(draft: Draft, number: int, line: str) -> None:
    option = _OPTION.search(line)
    text, options = (line, "") if option is None else (line[: option.start()], line[option.start() :])
    if len(text) > _MAX_REQUIREMENT:
        draft.fail(f"line {number} has a requirement over {_MAX_REQUIREMENT} characters.")
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        if _NOT_AN_INDEX_S.match(text):
            draft.direct(text, None, _of_url(text.split()[0], options))
            return
        draft.fail(f"line {number} is not a requirement: {text[:100]!r}.")
    if requirement.url is not None:
        draft.direct(text, requirement.name, _of_url(requirement.url, options))
        return
    pinned = [s.version for s in requirement.specifier if s.operator in {"==", "==="} and not s.version.endswith(".*")]
    if not pinned:
        draft.note(text, "is not pinned to one version")
        return
    digests = dict.fromkeys(sha256_of(found) for found in _HASH.findall(options))
    for version in sorted(set(pinned)):
        draft.pin(requirement.name, version, tuple(LockedFile(sha256=d) for d in digests if d is not None))


def _of_url(url: str, options: str) -> LockedFile:
    digest = next((d for found in _HASH.findall(options) if (d := sha256_of(found)) is not None), None)
    return LockedFile(filename=filename_of(url), sha256=digest, url=url)
