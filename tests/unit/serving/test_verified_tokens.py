"""Tests of how many verified tokens are kept: neither their number nor what they claim takes more memory."""

import json
import sys
import tracemalloc

import pytest

from pywharf.core.access.identities import Claims, ServiceAccount
from pywharf.serving.identity.verified_tokens import MAX_BYTES, MAX_TOKENS, Verified, no_tokens


def account(number: int) -> ServiceAccount:
    return ServiceAccount("ml", f"trainer-{number}")


def test_small_tokens_are_bounded_in_number():
    kept = no_tokens()
    for number in range(MAX_TOKENS + 100):
        kept[number.to_bytes(4)] = Verified(account(number), 1.0)
    assert len(kept) == MAX_TOKENS
    assert (99).to_bytes(4) not in kept, "the oldest go first"


@pytest.mark.parametrize(
    "claims",
    [
        {f"{number:x}": 0 for number in range(600)},
        {"a": [[] for _ in range(2000)]},
        {"a": [{"": {}} for _ in range(700)]},
        {"a": "\u00e9" * 3000},
    ],
    ids=["many", "empty lists", "objects", "text"],
)
def test_what_tokens_claim_is_bounded_in_memory(claims):
    text, kept = json.dumps(claims), no_tokens()
    assert len(text.encode()) <= 3 * 8192
    tracemalloc.start()
    try:
        for number in range(50):
            kept[number.to_bytes(4)] = Verified(Claims("corp", json.loads(text), 1e10), 1.0)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 50 * sys.getsizeof(claims) < kept.currsize < MAX_BYTES
    assert taken <= 1.5 * kept.currsize, "what is counted is what is taken"


def test_the_oldest_make_room_for_large_ones():
    kept = no_tokens()
    claims = {f"{number:x}": 0 for number in range(600)}
    for number in range(MAX_TOKENS):
        kept[number.to_bytes(4)] = Verified(Claims("corp", claims, 1e10), 1.0)
    assert 50 < len(kept) < MAX_TOKENS / 4
    assert kept.currsize <= MAX_BYTES
    assert (MAX_TOKENS - 1).to_bytes(4) in kept
