"""Tokens that prove nothing, each with the reason that the audit shows."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pywharf.core.access.jwt_reasons import Reason
from support.identity.tokens import (
    AUDIENCE,
    CLUSTER,
    CORP,
    SigningKey,
    account_claims,
    corp_claims,
    encoded,
    hs256,
    signing_key,
)


@dataclass(frozen=True)
class Forged:
    """A token that must be refused."""

    name: str
    token: str = field(repr=False)
    reason: Reason


def forged_tokens(now: float) -> list[Forged]:
    """Return all of them, for a server that believes what `identity_document` names. `now`: Unix seconds."""
    return [*_headers(now), *_forms(now), *_signatures(now), *_times(now), *_audiences(now), *_claims(now)]


def _headers(now: float) -> Iterator[Forged]:
    key, claims = signing_key(), account_claims(now)
    payload = json.dumps(claims).encode()
    unsigned = f"{_part({'alg': 'none'})}.{encoded(payload)}"
    with_kid = f"{_part({'alg': 'none', 'kid': key.kid})}.{encoded(payload)}"
    yield Forged("alg none without a signature", f"{unsigned}.", Reason.ALGORITHM)
    yield Forged("alg none with a signature", f"{with_kid}.{encoded(b'x')}", Reason.ALGORITHM)
    yield Forged("alg None", key.raw(payload, {"alg": "None", "kid": key.kid}), Reason.ALGORITHM)
    public = key.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    head = _part({"alg": "HS256", "kid": key.kid})
    yield Forged(
        "HS256 with the public key as its secret", hs256(f"{head}.{encoded(payload)}", public), Reason.ALGORITHM
    )
    for algorithm in ("RS512", "ES256K", "rs256", 256, None, ["RS256"]):
        yield Forged(
            f"alg {json.dumps(algorithm)}", key.raw(payload, {"alg": algorithm, "kid": key.kid}), Reason.ALGORITHM
        )
    yield Forged("no alg", key.raw(payload, {"kid": key.kid}), Reason.ALGORITHM)
    for name, value in (
        ("jku", "https://evil.example/keys"),
        ("jwk", signing_key("evil").jwk()),
        ("x5u", "https://evil.example/chain"),
        ("x5c", ["MIIB"]),
        ("crit", ["exp"]),
        ("b64", False),
        ("typ", "at+jwt"),
        ("typ", 1),
    ):
        yield Forged(f"{name} {type(value).__name__} in the header", key.token(claims, **{name: value}), Reason.HEADER)
    yield Forged("nested", key.token(claims, cty="JWT"), Reason.NESTED)
    yield Forged("deflated", key.token(claims, zip="DEF"), Reason.ENCRYPTED)
    yield Forged("no kid", key.raw(payload, {"alg": "RS256"}), Reason.NO_KEY_ID)
    for kid in (1, "", "x" * 513):
        yield Forged(f"kid {str(kid)[:5]!r}", key.token(claims, kid=kid), Reason.HEADER)
    yield Forged("kid of another issuer", key.token(claims, kid="corp-1"), Reason.KEY)
    yield Forged("unknown kid", key.token(claims, kid="cluster-2"), Reason.KEY)
    yield Forged("kid in other letters", key.token(claims, kid="Cluster-1"), Reason.KEY)
    double = b'{"alg":"RS256","alg":"none","kid":"cluster-1"}'
    yield Forged("alg twice", key.raw(payload, double), Reason.DUPLICATE_NAME)


def _forms(now: float) -> Iterator[Forged]:
    key = signing_key()
    good = key.token(account_claims(now))
    head, payload, signature = good.split(".")
    header = {"alg": "RS256", "kid": key.kid}
    yield Forged("8 KB long", key.token(account_claims(now, padding="x" * 8192)), Reason.TOO_LONG)
    yield Forged("a JWE", f"{_part({'alg': 'RSA-OAEP', 'enc': 'A256GCM'})}.e30.e30.e30.e30", Reason.ENCRYPTED)
    yield Forged("four parts", f"{good}.e30", Reason.MALFORMED)
    yield Forged("padded", f"{head}.{payload}.{signature}==", Reason.MALFORMED)
    yield Forged("a line end", f"{good}\n", Reason.MALFORMED)
    yield Forged("a space", f"{head}. {payload}.{signature}", Reason.MALFORMED)
    yield Forged("a NUL", f"{head}.{payload}\0.{signature}", Reason.MALFORMED)
    yield Forged("base64 of the other alphabet", f"{head}.{payload}.{signature[:-4]}+/+/", Reason.MALFORMED)
    yield Forged("letters beyond ASCII", f"{head}.{payload}.{signature[:-1]}é", Reason.MALFORMED)
    yield Forged("no payload", f"{head}..{signature}", Reason.MALFORMED)
    # The last character of 256 bytes has four bits that nothing uses.
    other = chr(ord(signature[-1]) + 1)
    yield Forged("another spelling of the signature", f"{head}.{payload}.{signature[:-1]}{other}", Reason.MALFORMED)
    for name, content in (
        ("a list", b"[]"),
        ("no JSON", b"{"),
        ("UTF-16", json.dumps(account_claims(now)).encode("utf-16")),
        ("a byte order mark", b"\xef\xbb\xbf" + json.dumps(account_claims(now)).encode()),
        ("NaN", json.dumps(account_claims(now, exp=float("nan"))).encode()),
        ("Infinity", json.dumps(account_claims(now, exp=float("inf"))).encode()),
        ("a number beyond all floats", b'{"exp": 1e999}'),
        ("a number of 5,000 digits", b'{"exp": ' + b"9" * 5000 + b"}"),
        ("half a character", b'{"sub": "\\ud800"}'),
        ("an escaped NUL", json.dumps(account_claims(now, sub="system:serviceaccount:ml:trainer\0")).encode()),
        ("deep", b'{"a":' + b"[" * 2000 + b"]" * 2000 + b"}"),
    ):
        yield Forged(f"claims: {name}", key.raw(content, header), Reason.MALFORMED)
    twice = json.dumps(account_claims(now)).encode()[:-1] + b', "sub": "system:serviceaccount:ml:root"}'
    yield Forged("sub twice", key.raw(twice, header), Reason.DUPLICATE_NAME)
    inside = b'{"kubernetes.io": {"namespace": "a", "namespace": "b"}}'
    yield Forged("a namespace twice", key.raw(inside, header), Reason.DUPLICATE_NAME)


def _signatures(now: float) -> Iterator[Forged]:
    key, claims = signing_key(), account_claims(now)
    head, _, signature = key.token(claims).split(".")
    other = _part(account_claims(now, jti="another"))
    yield Forged("other claims below a signature", f"{head}.{other}.{signature}", Reason.SIGNATURE)
    yield Forged("a key of the same id", SigningKey(key.kid, "RS256", _evil().private).token(claims), Reason.SIGNATURE)
    yield Forged("the other algorithm of the key's type", key.token(claims, alg="PS256"), Reason.KEY)
    yield Forged("an algorithm of another type of key", key.token(claims, alg="ES256"), Reason.KEY)
    yield Forged("a short signature", f"{head}.{other}.{encoded(b'x')}", Reason.SIGNATURE)
    corp = signing_key("corp-1", "ES256")
    yield Forged("the cluster's claims by another issuer's key", corp.token(claims), Reason.KEY)
    yield Forged("an issuer's claims by the cluster's key", key.token(corp_claims(now)), Reason.KEY)
    zeros = f"{_part({'alg': 'ES256', 'kid': 'corp-1'})}.{_part(corp_claims(now))}"
    yield Forged("an ECDSA signature of zeros", f"{zeros}.{encoded(bytes(64))}", Reason.SIGNATURE)


def _times(now: float) -> Iterator[Forged]:
    whole = int(now)
    for name, changed, reason in (
        ("expired a second beyond the leeway", {"exp": whole - 31}, Reason.EXPIRED),
        ("expired an hour ago", {"exp": whole - 3600}, Reason.EXPIRED),
        ("a negative exp", {"exp": -1}, Reason.EXPIRED),
        ("from the future", {"iat": whole + 60}, Reason.NOT_YET_VALID),
        ("not valid yet", {"nbf": whole + 60}, Reason.NOT_YET_VALID),
        ("no exp", {"exp": None}, Reason.CLAIM_MISSING),
        ("valid for ten years", {"exp": whole + 3650 * 86_400}, Reason.LIFETIME),
        ("exp of 400 digits", {"exp": 10**400}, Reason.LIFETIME),
        ("ends before it begins", {"nbf": whole + 10, "exp": whole + 5}, Reason.LIFETIME),
        ("exp is a text", {"exp": str(whole + 600)}, Reason.CLAIM_INVALID),
        ("exp is true", {"exp": True}, Reason.CLAIM_INVALID),
        ("nbf is a list", {"nbf": [whole]}, Reason.CLAIM_INVALID),
        ("iat is a text", {"iat": "yesterday"}, Reason.CLAIM_INVALID),
    ):
        yield Forged(name, signing_key().token(account_claims(now, **changed)), reason)


def _audiences(now: float) -> Iterator[Forged]:
    for name, audience, reason in (
        ("no audience", None, Reason.CLAIM_MISSING),
        ("another audience", "vault", Reason.AUDIENCE),
        ("an audience in other letters", "PyWharf", Reason.AUDIENCE),
        ("an audience that begins alike", f"{AUDIENCE}.example", Reason.AUDIENCE),
        ("a list of other audiences", ["vault", "argo"], Reason.AUDIENCE),
        ("the API server's own audience", [CLUSTER], Reason.API_SERVER_AUDIENCE),
        ("another of the API server's", "k3s", Reason.API_SERVER_AUDIENCE),
        ("the API server's audience beside the right one", [AUDIENCE, CLUSTER], Reason.API_SERVER_AUDIENCE),
        ("no audience in a list", [], Reason.CLAIM_INVALID),
        ("seventeen audiences", [AUDIENCE] * 17, Reason.CLAIM_INVALID),
        ("an audience that is a number", 1, Reason.CLAIM_INVALID),
        ("audiences that are objects", [{"aud": AUDIENCE}], Reason.CLAIM_INVALID),
    ):
        yield Forged(name, signing_key().token(account_claims(now, aud=audience)), reason)


def _claims(now: float) -> Iterator[Forged]:
    corp = signing_key("corp-1", "ES256")
    kubernetes = account_claims(now)["kubernetes.io"]
    for name, changed, reason in (
        ("issuer with a trailing slash", {"iss": f"{CLUSTER}/"}, Reason.ISSUER),
        ("issuer in other letters", {"iss": CLUSTER.upper()}, Reason.ISSUER),
        ("issuer with a port", {"iss": f"{CLUSTER}:443"}, Reason.ISSUER),
        ("an unknown issuer", {"iss": "https://evil.example"}, Reason.ISSUER),
        ("no issuer", {"iss": None}, Reason.CLAIM_MISSING),
        ("an issuer that is a list", {"iss": [CLUSTER]}, Reason.CLAIM_INVALID),
        ("no subject", {"sub": None}, Reason.CLAIM_MISSING),
        ("an empty subject", {"sub": ""}, Reason.CLAIM_INVALID),
        ("a subject that is a number", {"sub": 7}, Reason.CLAIM_INVALID),
        ("a subject of 600 characters", {"sub": "x" * 600}, Reason.CLAIM_INVALID),
        ("a jti that is a number", {"jti": 1}, Reason.CLAIM_INVALID),
        ("no kubernetes.io", {"kubernetes.io": None}, Reason.SUBJECT),
        ("kubernetes.io is a text", {"kubernetes.io": "ml/trainer"}, Reason.SUBJECT),
        ("no ServiceAccount", {"kubernetes.io": {"namespace": "ml"}}, Reason.SUBJECT),
        ("no namespace", {"kubernetes.io": {"serviceaccount": {"name": "trainer"}}}, Reason.SUBJECT),
        ("another namespace in kubernetes.io", {"kubernetes.io": {**kubernetes, "namespace": "prod"}}, Reason.SUBJECT),
        (
            "another account in kubernetes.io",
            {"kubernetes.io": {**kubernetes, "serviceaccount": {"name": "admin"}}},
            Reason.SUBJECT,
        ),
        ("another namespace in sub", {"sub": "system:serviceaccount:prod:trainer"}, Reason.SUBJECT),
        ("a user as the subject", {"sub": "admin"}, Reason.SUBJECT),
        (
            "a colon in the namespace",
            {
                "sub": "system:serviceaccount:ml:x:trainer",
                "kubernetes.io": {"namespace": "ml:x", "serviceaccount": {"name": "trainer"}},
            },
            Reason.SUBJECT,
        ),
        (
            "a star as the account",
            {
                "sub": "system:serviceaccount:ml:*",
                "kubernetes.io": {"namespace": "ml", "serviceaccount": {"name": "*"}},
            },
            Reason.SUBJECT,
        ),
        ("a pod that is a text", {"kubernetes.io": {**kubernetes, "pod": "trainer-0"}}, Reason.SUBJECT),
        ("a pod without a name", {"kubernetes.io": {**kubernetes, "pod": {}}}, Reason.SUBJECT),
    ):
        yield Forged(name, signing_key().token(account_claims(now, **changed)), reason)
    yield Forged("a company's token for another", corp.token(corp_claims(now, aud="vault")), Reason.AUDIENCE)
    yield Forged("the company's issuer with a slash", corp.token(corp_claims(now, iss=f"{CORP}/")), Reason.ISSUER)
    yield Forged("a company's token without a subject", corp.token(corp_claims(now, sub=None)), Reason.CLAIM_MISSING)


def _part(content: object) -> str:
    return encoded(json.dumps(content).encode())


def _evil() -> SigningKey:
    return signing_key("evil")
