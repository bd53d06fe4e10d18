"""The order of the run, and a summary at its end: what this machine could not test, which files take longest."""

import signal
from collections import Counter, defaultdict
from collections.abc import Generator
from pathlib import Path

import pytest

from support.examples import register
from support.parts import REQUIRE_ALL, all_required

pytest_plugins = [f"support.{name}.fixtures" for name in ("cluster", "github", "kubelet", "node", "object_stores")]

# nohup and a shell's `&` set these signals to ignored, and children inherit that: servers that the tests start would
# not end on them. A handler that does nothing protects the run as well, and children do not inherit it.
for _number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, lambda *_: None)

register()

# Fast folders first, so that a simple mistake shows in seconds. A folder that is not listed comes last.
FOLDERS = ("unit", "suite", "contract", "golden", "server", "cluster", "chart", "operator", "e2e")
HERE = Path(__file__).parent
_LONGEST_FILES = 15


def _folder(item: pytest.Item) -> int:
    folder = item.path.relative_to(HERE).parts[0] if item.path.is_relative_to(HERE) else ""
    return FOLDERS.index(folder) if folder in FOLDERS else len(FOLDERS)


def _timeout_s(item: pytest.Item) -> float:
    mark = item.get_closest_marker("timeout")
    return float(mark.args[0]) if mark else 0.0


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # In each folder, the files with tests that may take minutes run last, and so do these tests in their file. With
    # several processes they run first: otherwise, the others would wait for one process at the end.
    sign = -1 if hasattr(config, "workerinput") else 1
    longest_s: defaultdict[Path, float] = defaultdict(float)
    files: dict[Path, int] = {}
    for item in items:
        files.setdefault(item.path, len(files))
        longest_s[item.path] = max(longest_s[item.path], _timeout_s(item))

    def place(item: pytest.Item) -> tuple[float, ...]:
        return _folder(item), sign * longest_s[item.path], files[item.path], sign * _timeout_s(item)

    items.sort(key=place)  # stable: tests with equal keys keep pytest-randomly's order


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    longrepr = report.longrepr  # for a skip: (path, line, "Skipped: reason")
    text = longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)
    return text.removeprefix("Skipped: ")


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn any skip (a missing part, a mark, importorskip) into a failure if every test must run."""
    if all_required() and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"left out, but {REQUIRE_ALL} is set: {_reason(report)}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _refuse_skip(report)
    return report


def _show_longest_files(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the files whose tests take longest in sum, if the run asks for durations."""
    if not terminalreporter.config.getoption("durations"):
        return
    seconds: defaultdict[str, float] = defaultdict(float)
    for report in (one for reports in terminalreporter.stats.values() for one in reports):
        if isinstance(report, pytest.TestReport):
            seconds[report.nodeid.partition("::")[0]] += report.duration
    terminalreporter.section(f"longest files, of {sum(seconds.values()):.0f} s in all processes", blue=True)
    for file, took in sorted(seconds.items(), key=lambda item: -item[1])[:_LONGEST_FILES]:
        terminalreporter.line(f"{took:6.0f} s {file}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    _show_longest_files(terminalreporter)
    left_out = Counter(_reason(report) for report in terminalreporter.getreports("skipped"))
    terminalreporter.section("left out", blue=True)
    for reason, count in sorted(left_out.items()):
        terminalreporter.line(f"{count:4} x {reason}")
    if not left_out:
        terminalreporter.line("no test that was asked for")
    if (HERE / "bench").is_dir():
        terminalreporter.line("tests/bench: it measures and does not judge; `make bench` runs it")
