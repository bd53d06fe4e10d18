"""How many examples of a property are tried: few in the inner loop, all in `make test` and CI.

The profile is pytest's `--hypothesis-profile`; without one it is QUICK.
"""

from hypothesis import HealthCheck, settings

QUICK = "quick"
THOROUGH = "thorough"
_EXAMPLES = {QUICK: 20, THOROUGH: 100}


def register() -> None:
    """Register both profiles and load QUICK. pytest's option loads another one later."""
    for name, count in _EXAMPLES.items():
        # The duration of an example means nothing on a machine that also does other work.
        settings.register_profile(name, max_examples=count, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile(QUICK)


def examples(count: int) -> int:
    """Return how many examples to try of a property that needs `count` rather than 100 in the thorough profile."""
    return max(5, count * settings().max_examples // _EXAMPLES[THOROUGH])
