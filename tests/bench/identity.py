"""Benchmark of identities: a small page with a ServiceAccount token beside the same with the repo's secret."""

import json
import statistics
import time

from bench import data, load, servers
from bench.data import Data
from bench.load import Load
from bench.pages import CONNECTIONS, processor_time
from bench.report import Row, Target
from bench.settings import Settings
from support.identity.tokens import account_claims, identity_document, signing_key
from support.server.calling import basic

WITH_SECRET = "with a secret"
REPO, PROJECT = "small", "small1"
ENTRY = f"""
[[{REPO}.access]]
name = "pods"
permission = "Read"
service_accounts = [{{namespace = "ml", name = "trainer"}}]
"""


def measure(made: Data, settings: Settings) -> list[Row]:
    """Measure the page of one server with each of the two, in turns."""
    folder = data.fresh(settings.folder / "identity")
    document = folder / "identity.json"
    document.write_text(json.dumps(identity_document()))
    token = signing_key().token(account_claims(time.time()))
    config = f'identity_file = "{document}"\n{data.config(repos=[REPO])}{ENTRY}'
    path = f"/repo/{REPO}/simple/{PROJECT}/"
    runs: dict[str, list[Load]] = {"pywharf": [], WITH_SECRET: []}
    micros: dict[str, list[float]] = {"pywharf": [], WITH_SECRET: []}
    sent = {"pywharf": {"Authorization": basic(f"__token__:{token}")}, WITH_SECRET: servers.authorization(REPO)}
    with servers.pywharf(folder / "server", made.root, config, REPO) as server:
        server.until_200(path)
        for key in [*sent] * settings.runs:
            server.headers = sent[key]
            cpu = server.cpu_seconds()
            run = load.read(server, path, load.PIP, folder, seconds=settings.seconds, connections=CONNECTIONS)
            runs[key].append(run)
            micros[key].append(1e6 * (server.cpu_seconds() - cpu) / max(1.0, run.per_second * settings.seconds))
    values = {key: load.median(loads).per_second for key, loads in runs.items()}
    notes = [processor_time({key: statistics.median(each) for key, each in micros.items()})]
    wrong = sum(run.wrong for loads in runs.values() for run in loads)
    notes += [f"{wrong} answers of 400 and above"] if wrong else []
    return [Row("small page, ServiceAccount token", "/s", values, Target(WITH_SECRET, least=0.8), notes)]
