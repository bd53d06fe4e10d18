"""The pauses of the process that reads a feed."""

import pytest

from pywharf.serving.advisories.compiling import Pace


@pytest.mark.parametrize(
    ("steps_s", "slept_s"),
    [
        ([0.001] * 4, []),
        ([0.001] * 5, [0.005]),
        ([0.001] * 12, [0.005, 0.005]),
        ([0.3, 0.001, 0.004], [0.3, 0.005]),
    ],
)
def test_it_sleeps_as_long_as_it_works(steps_s, slept_s):
    worked, slept = [0.0], list[float]()
    pace = Pace(lambda: worked[0], slept.append)
    for step_s in steps_s:
        worked[0] = round(worked[0] + step_s, 6)
        pace()
    assert slept == pytest.approx(slept_s)
