"""Properties are tried with few examples in the inner loop, and with all of them where every test runs."""

from hypothesis import settings

from support.examples import QUICK, THOROUGH, examples
from support.parts import CHECKOUT


def test_few_in_the_inner_loop_and_all_in_a_whole_run():
    quick, thorough = (settings.get_profile(name).max_examples for name in (QUICK, THOROUGH))
    assert (quick, thorough) == (20, 100)
    assert examples(500) == 5 * settings().max_examples
    assert examples(1) == 5, "never fewer than some"


def test_every_test_is_run_thoroughly():
    target = (CHECKOUT / "Makefile").read_text().partition("\npytest:")[2].partition("\n\n")[0]
    assert f"--hypothesis-profile {THOROUGH}" in target
