"""A good client next to hostile clients, tenants and storages: none of its requests fails."""

import pytest

from support.server.mixed_load import measure

REST_S, LOAD_S = 10.0, 60.0
MEMORY_BYTES = 1024 * 1024 * 1024
"""The operator's default memory limit of a replica, for a PackageServer that sets none."""


@pytest.mark.timeout(240)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_good_client_is_served_beside_hostile_ones(tmp_path, workers):
    rest, load = measure(tmp_path, REST_S, LOAD_S, (f"--workers={workers}",))
    shown = (
        f"{workers} workers: {len(load.seconds)} requests under load, {len(rest.seconds)} at rest; "
        f"median {load.median_s * 1000:.0f} and {rest.median_s * 1000:.0f} ms, "
        f"p99 {load.p99_s * 1000:.0f} and {rest.p99_s * 1000:.0f} ms; memory {load.memory / 2**20:.0f} MiB; "
        f"hostile clients: {load.hostile}"
    )
    print(shown)
    assert load.failures == [], shown
    assert len(load.seconds) >= 4 * 10, shown
    assert load.memory <= MEMORY_BYTES, shown
    assert load.hostile, shown
