"""Print what was found, for people or as JSON."""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from pywharf.core.model import File, Project, rfc3339
from pywharf.core.policy.evaluation import Verdict, Withheld
from pywharf.core.policy.withholding import end_of, entry_of
from pywharf_operator.local.policy.judging import Judgement
from pywharf_operator.local.policy.subject import Subject

_WIDEST_NAME = 80


def judgement_json(judgement: Judgement, subject: Subject, lock: str, now: float) -> str:
    """Return the result of `policy test` as JSON."""
    withheld = [
        {"project": pin.project, "version": pin.version, **entry_of(file)}
        for pin in judgement.withheld
        for file in pin.files
    ]
    return _json(
        {
            **_head(subject, now),
            "lock": lock,
            "pins": judgement.pins,
            "withheld-pins": len(judgement.withheld),
            "withheld": withheld,
            "notes": [*judgement.notes, *notes_of(subject)],
        }
    )


def judgement_text(judgement: Judgement, subject: Subject) -> str:
    """Return the result of `policy test` as text."""
    lines = []
    for pin in judgement.withheld:
        lines.append(f"{pin.project} {pin.version} is withheld:")
        lines += (f"  {file.filename}: {sentence_of(file)}" for file in pin.files)
    count = len(judgement.withheld)
    of_repo = f"of {judgement.pins} pins, with {_policies(subject)} about the repo {subject.repo!r}"
    lines.append(f"{count or 'None'} {'is' if count < 2 else 'are'} withheld {of_repo}.")  # noqa: PLR2004 - plural
    return "\n".join(map(escaped, lines))


def explanation_json(project: Project, verdict: Verdict, subject: Subject, now: float, *, foreign: bool) -> str:
    """Return the result of `policy explain` as JSON."""
    return _json(
        {
            **_head(subject, now),
            "project": project.name,
            "upstream": foreign,
            "status": verdict.project.status,
            "status-reason": verdict.project.status_reason,
            "next-change": None if verdict.next_change is None else rfc3339(verdict.next_change),
            "files": [_file_json(*row) for row in _rows(project, verdict)],
            "notes": list(notes_of(subject)),
        }
    )


def explanation_text(project: Project, verdict: Verdict, subject: Subject, *, foreign: bool) -> str:
    """Return the result of `policy explain` as text: a line for each file."""
    rows = list(_rows(project, verdict))
    width = min(max((len(file.filename) for file, _, _ in rows), default=0), _WIDEST_NAME)
    origin = "the extra index's" if foreign else "the repo's own"
    lines = [f"{project.name}, {origin} project, with {_policies(subject)} about the repo {subject.repo!r}:"]
    if verdict.project.status != "active":
        reason = f": {verdict.project.status_reason}" if verdict.project.status_reason else ""
        lines.append(f"  status {verdict.project.status}{reason}")
    for file, shown, withheld in rows:
        said = sentence_of(withheld) if withheld is not None else "shown"
        if shown is not None and shown.yanked is not None:
            said = f"shown as yanked{f': {shown.yanked}' if shown.yanked else ''}"
        lines.append(f"  {file.filename:{width}}  {file.upload_time or 'no upload time':27}  {said}")
    if verdict.next_change is not None:
        lines.append(f"This changes at {rfc3339(verdict.next_change)}.")
    return "\n".join(map(escaped, lines))


def escaped(line: str) -> str:
    """Return a line without characters that would end it or change what a terminal shows."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def notes_of(subject: Subject) -> Sequence[str]:
    """Return what the commands do not know."""
    if subject.uses_advisories and subject.advisories is None:
        return ("a policy blocks malware; that is not tested without the server's feed, which --advisories takes",)
    return ()


def sentence_of(withheld: Withheld) -> str:
    """Return the rule that withholds a file, in words."""
    until = end_of(withheld)
    return (
        f"withheld by {withheld.rule} of {withheld.policy}"
        + (f": {withheld.reason}" if withheld.reason else "")
        + (f" (until {until})" if until is not None else "")
    )


def _rows(project: Project, verdict: Verdict) -> Sequence[tuple[File, File | None, Withheld | None]]:
    """Return each file with itself as it is shown, or with why it is not."""
    shown, withheld = iter(verdict.project.files), iter(verdict.withheld)
    rows: list[tuple[File, File | None, Withheld | None]] = []
    candidate = next(shown, None)
    for file in project.files:  # both are in this order; names may occur twice
        if candidate is not None and replace(candidate, yanked=file.yanked) == file:
            rows.append((file, candidate, None))
            candidate = next(shown, None)
        else:
            rows.append((file, None, next(withheld, None)))
    return rows


def _file_json(file: File, shown: File | None, withheld: Withheld | None) -> dict[str, Any]:
    return {
        "filename": file.filename,
        "upload-time": file.upload_time,
        "shown": withheld is None,
        "yanked": shown.yanked if shown is not None else None,
        "withheld": None if withheld is None else entry_of(withheld),
    }


def _head(subject: Subject, now: float) -> dict[str, Any]:
    feed = None if subject.advisories is None else subject.advisories.meta
    return {
        "repo": subject.repo,
        "time": rfc3339(now),
        "policies": list(subject.names),
        "advisories": None if feed is None else {"entries": feed.entries, "newest": rfc3339(feed.newest)},
    }


def _policies(subject: Subject) -> str:
    count = len(subject.names)
    return f"{count} {'policy' if count == 1 else 'policies'}"


def _json(value: dict[str, Any]) -> str:
    return msgspec.json.format(msgspec.json.encode(value)).decode()
