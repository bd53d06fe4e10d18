"""Samples of a server's /metrics."""

from prometheus_client.parser import text_string_to_metric_families

from support.server.calling import call
from support.server.serving import Server


def metric(server: Server, name: str, *labels: str, internal: bool = False) -> float:
    """Return the sample with this name and these label values (sorted by label name); 0 if there is none yet.

    `internal`: the server reports them on its internal port.
    """
    reply = call(f"{server.internal_url if internal else server.url}/metrics")
    assert reply.status == 200, reply
    for family in text_string_to_metric_families(reply.body.decode()):
        for sample in family.samples:
            if sample.name == name and tuple(value for _, value in sorted(sample.labels.items())) == labels:
                return sample.value
    return 0.0
