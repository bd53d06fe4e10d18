"""Benchmark of identities: the small page with a token, beside the same page of the same server with a secret."""

import json
import statistics
import time
from collections.abc import Mapping

from bench import data, load, servers
from bench.data import Data
from bench.load import Load
from bench.pages import CONNECTIONS, processor_time
from bench.report import Row, Target
from bench.settings import Settings
from pywharf.core.access.tokens import digest_of, new_token
from support.identity.tokens import account_claims, identity_document, signing_key
from support.server.calling import basic

WITH_SECRET = "with a secret"
LEAST = 0.8
_REPO = "small"
_PATH = f"/repo/{_REPO}/simple/small1/"
_OTHERS = 20
"""Further entries of the repo."""


def measure(made: Data, settings: Settings) -> list[Row]:
    """Measure each kind of token in turns with the secret."""
    folder = data.fresh(settings.folder / "identities")
    document = folder / "identity.json"
    document.write_text(json.dumps(identity_document()))
    token, bounded = new_token(), new_token()
    account = signing_key().token(account_claims(time.time()))
    digests = [digest_of(new_token()) for _ in range(_OTHERS)]
    entries = [
        *(_entry(f"other-{number}", f'token_digests = ["{digest}"]') for number, digest in enumerate(digests)),
        _entry("token", f'token_digests = ["{digest_of(token)}"]'),
        _entry("bounded", f'token_digests = ["{digest_of(bounded)}"]\nprojects = ["small1", "acme-*"]'),
        _entry("pods", 'service_accounts = [{namespace = "ml", name = "trainer"}]'),
    ]
    config = f'identity_file = "{document}"\n{data.config()}\n{"".join(entries)}'
    kinds = {"ServiceAccount's token": account, "token": token, "token, some projects": bounded}
    with servers.pywharf(folder / "server", made.root, config, _REPO) as server:
        server.until_200(_PATH)
        return [
            _row(f"small page, {kind}", server, {"Authorization": basic(f"__token__:{sent}")}, settings)
            for kind, sent in kinds.items()
        ]


def _entry(name: str, subject: str) -> str:
    return f'[[{_REPO}.access]]\nname = "{name}"\npermission = "Read"\n{subject}\n'


def _row(name: str, server: servers.Server, authorization: Mapping[str, str], settings: Settings) -> Row:
    asked: dict[str, Mapping[str, str]] = {"pywharf": {**load.PIP, **authorization}, WITH_SECRET: load.PIP}
    runs: dict[str, list[Load]] = {key: [] for key in asked}
    micros: dict[str, list[float]] = {key: [] for key in asked}
    for key in [*asked] * settings.runs:
        cpu = server.cpu_seconds()
        run = load.read(server, _PATH, asked[key], server.folder, seconds=settings.seconds, connections=CONNECTIONS)
        runs[key].append(run)
        micros[key].append(1e6 * (server.cpu_seconds() - cpu) / max(1.0, run.per_second * settings.seconds))
    values = {key: load.median(loads).per_second for key, loads in runs.items()}
    notes = [processor_time({key: statistics.median(each) for key, each in micros.items()})]
    if wrong := sum(run.wrong for loads in runs.values() for run in loads):
        notes.append(f"{wrong} answers of 400 and above")
    return Row(name, "/s", values, Target(WITH_SECRET, least=LEAST), notes)
