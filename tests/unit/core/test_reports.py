"""Server and operator read each other's reports, whichever of them is older."""

import msgspec
import pytest

from pywharf.cli import report
from pywharf.core.reports import ConfigReport, FailingSource, Fault, IndexReport
from pywharf.index.update import Summary

SUMMARY = Summary(projects=1, files=2, bytes=3, changed=False)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (report.of_summary(SUMMARY), b'{"projects":1,"files":2,"bytes":3,"changed":false,"problems":[]}\n'),
        (report.of_failure("Why."), b'{"error":"Why."}\n'),
        (
            msgspec.json.encode(ConfigReport("", {}, {})),
            (
                b'{"digest":"","broken":{},"policies":{},"access":false,"upstreams":[],"sources":false,"refused":"",'
                b'"reviews_forbidden":false}'
            ),
        ),
        (
            msgspec.json.encode(
                ConfigReport(
                    "a",
                    {"demo": Fault("code", "Why.")},
                    {},
                    access=True,
                    sources=True,
                    upstreams=(FailingSource("https://index.example/", 7, 9),),
                )
            ),
            (
                b'{"digest":"a","broken":{"demo":{"code":"code","message":"Why."}},"policies":{},"access":true,'
                b'"upstreams":[{"url":"https://index.example/","failing_since":7,"last_failure":9}],"sources":true,'
                b'"refused":"","reviews_forbidden":false}'
            ),
        ),
    ],
    ids=["summary", "failure", "no fault", "fault"],
)
def test_what_is_written(written, expected):
    assert written == expected


def test_what_is_written_is_read():
    problems = ("a.", "b.")
    read = msgspec.json.decode(report.of_summary(msgspec.structs.replace(SUMMARY, problems=problems)), type=IndexReport)
    assert read == IndexReport(projects=1, files=2, bytes=3, changed=False, problems=problems)
    assert msgspec.json.decode(report.of_failure("Why."), type=IndexReport) == IndexReport(error="Why.")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'{"digest": "a"}', ConfigReport("a")),
        (
            b'{"digest": "a", "new": [1], "broken": {"demo": {"code": "c", "message": "m", "new": 1}}}',
            ConfigReport("a", {"demo": Fault("c", "m")}),
        ),
        (b"{}", IndexReport()),
        (b'{"files": 2, "projects": null, "new": {"a": 1}}', IndexReport(files=2)),
        (b'{"error": "x", "new": 1}', IndexReport(error="x")),
    ],
    ids=["old config", "new config", "empty", "new summary", "new failure"],
)
def test_another_version_is_read(text, expected):
    assert msgspec.json.decode(text, type=type(expected)) == expected
