"""What a server's /metrics say."""

from prometheus_client.parser import text_string_to_metric_families

from support.calling import call
from support.serving import Server


def metric(server: Server, name: str, *labels: str) -> float:
    """One sample by its name and its labels' values, sorted by their names; 0 where there is none yet."""
    reply = call(f"{server.url}/metrics")
    assert reply.status == 200, reply
    for family in text_string_to_metric_families(reply.body.decode()):
        for sample in family.samples:
            if sample.name == name and tuple(value for _, value in sorted(sample.labels.items())) == labels:
                return sample.value
    return 0.0
