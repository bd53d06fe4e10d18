"""Properties of parsing and checking tokens: whatever is sent, it is refused or it is exactly what was signed."""

import json

from hypothesis import given
from hypothesis import strategies as st

from pywharf.core.access.jwt_claims import Expected, identity_of, issuer_of
from pywharf.core.access.jwt_keys import read_keys, verify
from pywharf.core.access.jwt_parsing import parse
from pywharf.core.access.jwt_reasons import RefusedTokenError
from support.identity.tokens import AUDIENCE, CLUSTER, account_claims, encoded, jwks, signing_key

NOW = 1_800_000_000.0
KEY = signing_key()
KEYS = read_keys(jwks(KEY))
EXPECTED = Expected("", AUDIENCE, frozenset({CLUSTER}))
GOOD = KEY.token(account_claims(NOW))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)


def proves(token: str) -> bool:
    """Return whether a token proves something. Any error but a refusal fails the test."""
    try:
        parsed = parse(token)
        issuer_of(parsed.claims)
        identity_of(parsed.claims, EXPECTED, NOW)
        verify(parsed, KEYS)
    except RefusedTokenError:
        return False
    return True


def test_the_good_token_proves_something():
    assert proves(GOOD)


@given(st.text(max_size=400) | st.binary(max_size=400).map(lambda content: f"{encoded(content)}.e30.e30"))
def test_any_text_is_refused(text):
    assert not proves(text)


@given(JSON, JSON)
def test_any_header_and_claims_are_refused_or_read(header, claims):
    parts = [encoded(json.dumps(part).encode()) for part in (header, claims)]
    assert not proves(f"{parts[0]}.{parts[1]}.{encoded(b'signature')}")


@given(st.integers(0, len(GOOD) - 1), st.characters(codec="ascii"))
def test_one_other_character_is_refused(place, character):
    changed = GOOD[:place] + character + GOOD[place + 1 :]
    assert proves(changed) is (changed == GOOD)


@given(st.sampled_from(sorted(account_claims(NOW))), JSON)
def test_a_claim_of_any_type_is_checked_although_it_is_signed(name, value):
    claims = account_claims(NOW, **{name: value})
    signed = proves(KEY.token(claims))
    if name in {"iss", "sub", "aud", "kubernetes.io"}:
        assert not signed or value == AUDIENCE
