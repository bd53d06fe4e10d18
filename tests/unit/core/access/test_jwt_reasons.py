"""Check that the docs explain each reason for which a token is refused."""

import re

from pywharf.core.access.identity_document import Cluster, IdentityDocument, Issuer
from pywharf.core.access.jwt_reasons import Reason, RefusedTokenError
from support.parts import CHECKOUT

PAGE = CHECKOUT / "docs" / "service-account-tokens.md"


def test_the_docs_have_each_reason_and_no_other():
    assert set(re.findall(r"`(jwt-[a-z-]+)`", PAGE.read_text())) == {reason.value for reason in Reason}


def test_the_docs_have_each_field_of_the_document():
    rows = set(re.findall(r"^\| `([a-z_.\[\]]+)` \|", PAGE.read_text(), re.MULTILINE))
    fields = {
        *(field for field in IdentityDocument.__struct_fields__ if field != "cluster"),
        *(f"cluster.{field}" for field in Cluster.__struct_fields__),
        *(f"issuers[].{field}" for field in Issuer.__struct_fields__),
    }
    assert fields <= rows, fields - rows


def test_the_text_of_a_refusal_begins_with_its_code():
    assert str(RefusedTokenError(Reason.EXPIRED)) == "jwt-expired"
    assert str(RefusedTokenError(Reason.CLAIM_INVALID, "exp")) == "jwt-claim-invalid: exp"
