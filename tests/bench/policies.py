"""Benchmark of policies: warm pages beside the same without policies, and a large page made again."""

import json
import statistics
import time

from bench import data, load, servers
from bench.data import Data
from bench.load import Load
from bench.pages import CONNECTIONS, processor_time
from bench.report import Row, Target
from bench.settings import Settings
from pywharf.core.names import normalize, parse_repo_name
from pywharf.core.policy.document import parse_document
from pywharf.core.policy.evaluation import compile_policies
from pywharf.core.policy.model import RULES_OF_A_COSTLY_PATTERN
from pywharf.index.codecs import decode_index
from pywharf.index.enforcement import Enforcement
from pywharf.index.project_pages import Sources, make_page

RULES = (10, 10_000)
WITHOUT = "without policies"
PAGES = (("small page", "small", "small1"), ("1,000-file page", "thousand", "thousand"))
MADE_MS = 20.0
_TIMES = 7


def document(rules: int, project: str) -> str:
    """Return policies with so many rules in all. A quarter each denies and yanks versions of the project.

    The others are about other projects: a quarter by their names, a quarter by patterns, which count as ten each.
    """
    quarter = rules // 4
    policy = {
        "name": "bench/policy",
        "cooldown": {"minimum_age_s": 7 * 86_400},
        "deny": [
            *({"project": project, "versions": f"=={n}.7", "reason": "stolen"} for n in range(quarter)),
            *({"project": f"other-{n}", "versions": f"<{n}", "reason": "broken"} for n in range(quarter)),
        ],
        "yank": [{"project": project, "versions": f"=={n}.5", "reason": "broken"} for n in range(quarter)],
    }
    rest = rules - 3 * quarter - 1
    patterns = [{"project": f"*-{n}-*", "reason": "not ours"} for n in range(rest // RULES_OF_A_COSTLY_PATTERN)]
    names = [{"project": f"name-{n}", "reason": "not ours"} for n in range(rest % RULES_OF_A_COSTLY_PATTERN)]
    others = {"name": "bench/others", "deny": [*patterns, *names]}
    return json.dumps({"policies": [policy, others]})


def measure_warm(made: Data, settings: Settings, name: str, repo: str, project: str) -> list[Row]:
    """Measure one page with policies of each size and without any, in turns."""
    return [_warm(made, settings, rules, name, repo, project) for rules in RULES]


def _warm(made: Data, settings: Settings, rules: int, name: str, repo: str, project: str) -> Row:
    folder = data.fresh(settings.folder / "policies")
    policies = folder / "policies.json"
    policies.write_text(document(rules, project))
    path = f"/repo/{repo}/simple/{project}/"
    config = f'policies_file = "{policies}"\n{data.config()}'
    runs: dict[str, list[Load]] = {"pywharf": [], WITHOUT: []}
    micros: dict[str, list[float]] = {"pywharf": [], WITHOUT: []}
    with (
        servers.pywharf(folder / "with", made.root, config, repo) as with_policies,
        servers.pywharf(folder / "without", made.root, data.config(), repo) as without,
    ):
        asked = {"pywharf": with_policies, WITHOUT: without}
        for server in asked.values():
            server.until_200(path)
        for key in [*asked] * settings.runs:
            server = asked[key]
            cpu = server.cpu_seconds()
            run = load.read(server, path, load.PIP, folder, seconds=settings.seconds, connections=CONNECTIONS)
            runs[key].append(run)
            micros[key].append(1e6 * (server.cpu_seconds() - cpu) / max(1.0, run.per_second * settings.seconds))
    values = {key: load.median(loads).per_second for key, loads in runs.items()}
    notes = [processor_time({key: statistics.median(each) for key, each in micros.items()})]
    return Row(f"{name}, {rules:,} rules", "/s", values, Target(WITHOUT, least=0.8), notes)


def measure_made(made: Data) -> list[Row]:
    """Measure what it costs to make the page of 1,000 files again: decode, evaluate, render."""
    return [_made(made, rules) for rules in RULES]


def _made(made: Data, rules: int) -> Row:
    name, repo = normalize("thousand"), parse_repo_name("thousand")
    content = made.index("thousand").read_bytes()
    policies = compile_policies(parse_document(document(rules, name).encode()), repo)
    times: dict[bool, list[float]] = {True: [], False: []}
    for is_json in [True, False] * _TIMES:
        project = decode_index(content, "index.json").project(name)
        # A new object each time, as after a change of the policies; a clock of the process, because others may run.
        began = time.process_time()
        make_page(Sources(project), Enforcement(repo, policies), lambda _: None, is_json=is_json)
        times[is_json].append(1e3 * (time.process_time() - began))
    json_ms, html_ms = (statistics.median(times[is_json]) for is_json in (True, False))
    notes = [
        "processor time in this process, the slower of JSON and HTML",
        f"JSON {json_ms:.1f} ms, HTML {html_ms:.1f}",
    ]
    row = f"1,000-file page made anew, {rules:,} rules"
    return Row(row, "ms", {"pywharf": max(json_ms, html_ms)}, Target("", most=MADE_MS), notes)
