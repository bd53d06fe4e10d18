"""What a store's error becomes: the sentence, its class, and that nothing secret is in it."""

import pytest

from pywharf.backends.object_store.failures import failure
from pywharf.core.errors import BackendUnavailableError, StorageFullError

SIGNED = "https://bucket.example/x?X-Amz-Signature=hush&sig=hush"


def answered(status: int, code: str = "", more: str = "") -> Exception:
    return Exception(
        f"Generic S3 error: Error performing GET {SIGNED} in 1ms, after 2 retries, max_retries: 2, retry_timeout: 5s - "
        f"Server returned non-2xx status code: {status} Reason: <Error><Code>{code}</Code>{more}</Error>\n\n"
        "Debug source:\nRetryErrorImpl { retries: 2, retry_timeout: 10s }"
    )


def unanswered(kind: str) -> Exception:
    return Exception(
        f"Generic S3 error: Error performing GET {SIGNED} in 1ms, after 2 retries, retry_timeout: 5s - HTTP error: "
        f"error sending request\n\nDebug source:\nRetryErrorImpl {{ retry_timeout: 10s, {kind} }}"
    )


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (answered(404, "NoSuchBucket"), "The bucket 'b' does not exist; create it, or correct the repo's settings."),
        (answered(404, "ContainerNotFound"), "The bucket 'b' does not exist; create it"),
        (answered(403, "InvalidAccessKeyId"), "does not know the access key; put valid keys"),
        (answered(403, "SignatureDoesNotMatch"), "rejects the signature"),
        (answered(403, "AuthenticationFailed"), "rejects the key or token"),
        (answered(400, "ExpiredToken"), "says that the credentials have expired"),
        (answered(403, "RequestTimeTooSkewed"), "says that this machine's clock is wrong"),
        (
            answered(403, "AccessDenied"),
            "denies access; give the credentials the rights that docs/object-stores.md lists",
        ),
        (answered(403), "denies access; check the credentials"),
        (
            answered(400, "AuthorizationHeaderMalformed", "<Region>eu-west-1</Region>"),
            "keeps the bucket in the region eu-west-1; set the repo's region to that",
        ),
        (answered(301, "PermanentRedirect"), "keeps the bucket in another region"),
        (answered(418, "Teapot"), "answered with the status 418 (Teapot); try again"),
        (answered(500), "answered with the status 500; try again"),
        (answered(501, "NotImplemented"), "does not support a request that is needed"),
        (unanswered("TimedOut"), "did not answer in time"),
        (unanswered("kind: Connect, source: Os { message: 'Connection refused' }"), "cannot be connected to"),
        (unanswered("dns error: failed to lookup address information"), "has a host name that cannot be resolved"),
        (unanswered("invalid peer certificate: UnknownIssuer"), "has a certificate that is not trusted"),
        (unanswered("BadScheme"), "leads to plain HTTP"),
        (unanswered("IncompleteMessage"), "broke off the connection"),
        (Exception(""), "broke off the connection"),
        (Exception("x" * 1_000_000), "broke off the connection"),
    ],
)
def test_the_sentence_says_what_to_do(error, said):
    made = failure(error, "bucket 'b'")
    assert isinstance(made, BackendUnavailableError)
    assert said in str(made)
    assert "hush" not in str(made)
    assert len(str(made)) < 300


@pytest.mark.parametrize(
    "error", [answered(503, "SlowDown"), answered(503), answered(429), answered(503, "ServerBusy")]
)
def test_a_store_that_wants_a_pause_gets_one(error):
    made = failure(error, "bucket 'b'")
    assert isinstance(made, BackendUnavailableError)
    assert made.retry_after_s == 10
    assert BackendUnavailableError("").retry_after_s == 2


@pytest.mark.parametrize("error", [answered(507), answered(403, "QuotaExceeded"), answered(400, "XMinioStorageFull")])
def test_a_full_store_is_said_to_be_full(error):
    assert isinstance(failure(error, "bucket 'b'"), StorageFullError)
