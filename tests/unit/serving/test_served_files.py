"""Files that were served, and new advisories about them."""

import asyncio
import logging

import pytest

from pywharf.core.advisories.store import AdvisoryStore
from pywharf.core.names import ProjectName, RepoName
from pywharf.serving.advisories import served_files
from pywharf.serving.advisories.served_files import ServedFiles
from support.advisories import affected, entry, malware, store_of

DAY_S = 86_400.0
TEAM, OTHER = RepoName("team"), RepoName("other")
ACME = ProjectName("acme")
WHEEL, SDIST = "acme-1.0-py3-none-any.whl", "acme-2.0.tar.gz"


class Watched:
    """Served files with a clock to set, and what they counted."""

    def __init__(self, folder, caplog):
        self.now = 20_000 * DAY_S
        self.counted: list[tuple[str, str]] = []
        self.files = ServedFiles(lambda repo, kind: self.counted.append((repo, kind)), lambda: self.now)
        self.folder = folder / "said"
        self._caplog = caplog

    def report(self, old: AdvisoryStore | None, new: AdvisoryStore) -> list[str]:
        self._caplog.clear()
        with self._caplog.at_level(logging.WARNING):
            asyncio.run(self.files.report(old, new, self.folder))
        return [record.getMessage() for record in self._caplog.records]


@pytest.fixture
def watched(tmp_path, caplog):
    return Watched(tmp_path, caplog)


def test_a_new_entry_about_a_served_file_is_counted_and_logged_once(watched):
    watched.files.note(TEAM, ACME, WHEEL)
    watched.files.note(OTHER, ACME, SDIST)
    old, new = store_of(malware("x")), store_of(malware("x"), malware("acme", "1.0"))
    said = watched.report(old, new)
    assert said == [f"New advisory MAL-2026-acme: repo team served {WHEEL}, last on 2024-10-04."]
    assert watched.counted == [("team", "malware")]
    assert watched.report(new, new) == []
    assert watched.report(old, new) == [], "another worker has logged it"
    assert watched.counted == [("team", "malware")] * 2


def test_what_the_old_feed_knew_is_not_new(watched):
    watched.files.note(TEAM, ACME, WHEEL)
    old = store_of(entry("GHSA-1", affected("acme", ["1.0"])), entry("GHSA-2", affected("acme", ["2.0"])))
    new = store_of(entry("GHSA-1", affected("acme", ["1.0"])), entry("GHSA-2", affected("acme", ["1.0", "2.0"])))
    assert watched.report(None, old)[0].startswith("New advisory GHSA-1:")
    assert watched.report(old, new)[0].startswith("New advisory GHSA-2:"), "it is about this version only now"
    assert watched.counted == [("team", "other")] * 2


def test_a_file_is_forgotten_after_thirty_days(watched):
    new = store_of(malware("acme"))
    watched.files.note(TEAM, ACME, WHEEL)
    watched.now += 29 * DAY_S
    watched.files.note(TEAM, ACME, SDIST)
    watched.now += 2 * DAY_S
    assert [SDIST in line for line in watched.report(None, new)] == [True]
    watched.files.note(TEAM, ACME, WHEEL)
    watched.now -= 400 * DAY_S  # a clock that is set back
    watched.files.note(TEAM, ACME, WHEEL)
    assert len(watched.report(None, new)) == 1


def test_the_memory_and_the_log_are_bounded(watched, monkeypatch):
    monkeypatch.setattr(served_files, "MAX_FILES", 10)
    monkeypatch.setattr(served_files, "_MAX_LINES", 3)
    for number in range(20):
        watched.files.note(TEAM, ACME, f"acme-{number}.tar.gz")
    said = watched.report(None, store_of(malware("acme"), *[malware(f"x-{number}") for number in range(3)]))
    assert len(watched.counted) == 10
    assert "acme-10.tar.gz" in said[0]
    assert said[3:] == ["New advisories are about 7 further files that were served."]


def test_a_line_names_few_of_many_entries_and_malware_first(watched):
    watched.files.note(TEAM, ACME, WHEEL)
    others = [entry(f"GHSA-{number}", affected("acme", ["1.0"])) for number in range(8)]
    said = watched.report(None, store_of(*others, malware("acme")))
    assert said[0].startswith("New advisory MAL-2026-acme, GHSA-0, GHSA-1, GHSA-2, GHSA-3 and 4 more: ")
