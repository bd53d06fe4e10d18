"""Tests of the names by which audit and access log speak of clients."""

import pytest

from pywharf.core.access.identities import ProxyUser, ServiceAccount, TokenHolder
from pywharf.core.access.known_issuers import RESERVED_NAMES


@pytest.mark.parametrize(
    "identity", [TokenHolder("sha256:" + "a" * 64), ServiceAccount("ml", "trainer"), ProxyUser("eve", ())]
)
def test_no_issuer_may_be_named_as_the_subjects_of_another_kind_begin(identity):
    assert identity.subject.partition(":")[0] in RESERVED_NAMES
