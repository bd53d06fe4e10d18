"""Every malformed manifest yields one sentence: the field, its value and what to write instead."""

import pytest

from support.operator.manifest_cases import MALFORMED, REFUSED_AT_ADMISSION, WELL_FORMED
from support.operator.manifest_text import parsed


@pytest.mark.parametrize(("text", "sentence"), MALFORMED, ids=range(len(MALFORMED)))
def test_one_clear_sentence(text, sentence):
    found = parsed(text)
    assert [sentence in problem.sentence for problem in found.problems] == [True], found.problems
    assert found.problems[0].sentence.endswith((".", "?"))
    assert found.problems[0].file == "a.yaml"
    assert found.problems[0].document == 1
    assert found.loaded == ()


@pytest.mark.parametrize("text", [*WELL_FORMED, *(text for text, _ in REFUSED_AT_ADMISSION)])
def test_well_formed(text):
    found = parsed(text)
    assert found.problems == ()
    assert len(found.loaded) == 1
