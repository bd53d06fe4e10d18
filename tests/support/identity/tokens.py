"""Issuers of tokens for tests: real keys, and tokens as an issuer signs them or as somebody forges them."""

import base64
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

CLUSTER = "https://kubernetes.default.svc"
CORP = "https://sso.corp.example"
AUDIENCE = "pywharf"
JSON = Mapping[str, Any]


@dataclass(frozen=True)
class SigningKey:
    """A private key with its id."""

    kid: str
    algorithm: str
    private: Any

    def jwk(self, **more: object) -> dict[str, Any]:
        """Return the public key as an issuer publishes it."""
        found: dict[str, Any] = get_default_algorithms()[self.algorithm].to_jwk(self.private.public_key(), as_dict=True)
        found.pop("key_ops", None)
        return {**found, "kid": self.kid, "use": "sig", "alg": self.algorithm, **more}

    def token(self, claims: JSON, **header: object) -> str:
        """Return a token with these claims."""
        return self.raw(json.dumps(claims).encode(), {"alg": self.algorithm, "kid": self.kid, **header})

    def raw(self, payload: bytes, header: JSON | bytes) -> str:
        """Return a signed token of exactly these bytes."""
        head = header if isinstance(header, bytes) else json.dumps(header).encode()
        signed = f"{encoded(head)}.{encoded(payload)}"
        signature = get_default_algorithms()[self.algorithm].sign(signed.encode(), self.private)
        return f"{signed}.{encoded(signature)}"


def encoded(content: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


@functools.cache
def signing_key(kid: str = "cluster-1", algorithm: str = "RS256", bits: int = 2048) -> SigningKey:
    """Return a key, the same one for the same arguments."""
    private: Any
    if algorithm[:2] in {"RS", "PS"}:
        private = rsa.generate_private_key(65537, bits)
    elif algorithm == "EdDSA":
        private = ed25519.Ed25519PrivateKey.generate()
    else:
        private = ec.generate_private_key(ec.SECP256R1() if algorithm == "ES256" else ec.SECP384R1())
    return SigningKey(kid, algorithm, private)


def jwks(*keys: SigningKey) -> dict[str, Any]:
    return {"keys": [key.jwk() for key in keys]}


def account_claims(now: float, **changed: object) -> dict[str, Any]:
    """Return the claims of a projected ServiceAccount token. `None` removes a claim."""
    claims = {
        "iss": CLUSTER,
        "aud": [AUDIENCE],
        "sub": "system:serviceaccount:ml:trainer",
        "iat": int(now) - 10,
        "nbf": int(now) - 10,
        "exp": int(now) + 3600,
        "jti": "0f5c7a52-3ed3-4b1c-8a51-8be4f4a7ef0b",
        "kubernetes.io": {
            "namespace": "ml",
            "node": {"name": "node-1", "uid": "c2a8f0a2-6c5e-4a7b-8f26-b9a1d9b4a5f1"},
            "pod": {"name": "trainer-0", "uid": "9d1b6ad5-6b4f-4a53-9b57-0d0c37c5b1a9"},
            "serviceaccount": {"name": "trainer", "uid": "4f6d2a3e-27a6-4b0c-8d0a-43cbbf1f9f7d"},
        },
    }
    return {name: value for name, value in {**claims, **changed}.items() if value is not None}


def corp_claims(now: float, **changed: object) -> dict[str, Any]:
    """Return the claims of a token of the company's issuer. `None` removes a claim."""
    claims = {"iss": CORP, "aud": AUDIENCE, "sub": "build-17", "iat": int(now), "exp": int(now) + 300}
    return {name: value for name, value in {**claims, **changed}.items() if value is not None}


def hs256(signed: str, secret: bytes) -> str:
    """Return a token signed with a shared secret."""
    found = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(signed.encode(), secret)
    return f"{signed}.{encoded(found)}"


def identity_document(**changed: object) -> dict[str, Any]:
    """Return a document that believes the cluster and the company's issuer, whose keys it holds."""
    return {
        "cluster": {"issuer": CLUSTER, "jwks": jwks(signing_key()), "audiences": [CLUSTER, "k3s"]},
        "issuers": [{"name": "corp", "url": CORP, "jwks": jwks(signing_key("corp-1", "ES256"))}],
        **changed,
    }
