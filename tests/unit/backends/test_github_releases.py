"""Check how a GitHub release becomes a file, and how releases form a journal."""

import base64
import re
import time

import msgspec
import pytest

from pywharf.backends.github.credentials import parse_client_token, parse_credentials
from pywharf.backends.github.journal import ReleaseJournal
from pywharf.backends.github.releases import Asset, Release, body_of, entry_of, upload_began
from pywharf.backends.github.signed_urls import life_s
from pywharf.core.errors import InvalidConfigError, UnauthenticatedError
from pywharf.core.model import File
from pywharf.core.names import ProjectName

TAG = "foo-1.0-py3-none-any.whl"
FOO = ProjectName("foo")
FILE = File(
    filename=TAG,
    sha256="a" * 64,
    size=3,
    upload_time="2026-11-23T01:02:03.000004Z",
    requires_python=">=3.11",
    metadata_sha256="b" * 64,
)
URL = "https://api.github.com/repos/o/r/releases/assets/7"
CONTENT, METADATA = Asset(TAG, 3, URL), Asset(f"{TAG}.metadata", 9, f"{URL}8")
RELEASE = Release(
    id=1, tag_name=TAG, body=body_of(FOO, FILE), published_at="2026-11-23T01:02:09Z", assets=(CONTENT, METADATA)
)
ORIGINAL = 'distrib = "Foo"\nsha256 = "' + "A" * 64 + '"\nrequires_python = ""\nsummary = "of the original"\n'


def changed(**fields: object) -> Release:
    return msgspec.structs.replace(RELEASE, **fields)


def test_what_was_written_is_read():
    assert entry_of(RELEASE).project == "foo"
    assert entry_of(RELEASE).file == msgspec.structs.replace(FILE, location=URL)


@pytest.mark.parametrize(
    ("release", "expected"),
    [
        (changed(assets=(CONTENT,)), {"metadata_sha256": None}),
        (changed(assets=(METADATA, Asset("renamed.by.GitHub.whl", 3, URL))), {}),
        (changed(assets=(Asset("other.whl", 5, "elsewhere"), CONTENT, METADATA)), {}),
        (changed(assets=(msgspec.structs.replace(CONTENT, size=4), METADATA)), {"size": 4}),
        (changed(body=body_of(FOO, FILE) + 'yanked = "broken"\n'), {"yanked": "broken"}),
        (
            changed(body=ORIGINAL, assets=(CONTENT,)),
            {"metadata_sha256": None, "requires_python": None, "upload_time": "2026-11-23T01:02:09Z"},
        ),
    ],
)
def test_what_github_says_counts(release, expected):
    file = entry_of(release).file
    assert file == msgspec.structs.replace(FILE, location=URL, **expected)


@pytest.mark.parametrize(
    ("release", "said"),
    [
        (changed(tag_name="v1.0"), "its tag is no distribution's file name"),
        (changed(body="What is new"), "is not valid TOML"),
        (changed(body=None), "'distrib' is missing"),
        (changed(body='distrib = "foo"'), "'sha256' is missing"),
        (changed(body='distrib = "-"\nsha256 = "' + "a" * 64 + '"'), "left out"),
        (changed(assets=()), "must have one asset"),
        (changed(assets=(METADATA,)), "must have one asset"),
        (changed(assets=(msgspec.structs.replace(CONTENT, state="starter"),)), "must have one asset"),
        (changed(assets=(Asset("a.whl", 3, URL), Asset("b.whl", 3, URL))), "must have one asset"),
    ],
)
def test_a_release_that_is_no_file_says_why(release, said):
    with pytest.raises(InvalidConfigError, match=said) as raised:
        entry_of(release)
    assert release.tag_name in str(raised.value)


@pytest.mark.parametrize(
    ("body", "began"),
    [(RELEASE.body, 1795395723.000004), (ORIGINAL, None), ("# What is new", None), (None, None)],
)
def test_only_uploads_have_a_time_at_which_they_began(body, began):
    assert upload_began(changed(draft=True, body=body)) == began


def test_a_journal_goes_on_where_one_was():
    def release(number: int, at: str, **more: object) -> Release:
        tag = f"foo-{number}.0-py3-none-any.whl"
        return changed(id=number, tag_name=tag, published_at=at, assets=(Asset(tag, 3, f"{URL}{number}"),), **more)

    first, second = release(1, "2026-11-23T01:00:02Z"), release(2, "2026-11-23T01:00:01Z")
    journal = ReleaseJournal([first, second])
    assert [e.file.filename[4] for e in journal.entries if e.file] == ["2", "1"]
    begun = journal.read(None)
    assert (begun.entries, begun.restarted) == (journal.entries, True)
    again = ReleaseJournal([second, first]).read(begun.cursor)
    assert (again.entries, again.restarted, again.cursor) == ((), False, begun.cursor)
    third = release(3, "2026-11-23T01:00:03Z")
    more = ReleaseJournal([third, first, second, release(4, "", draft=True)]).read(begun.cursor)
    assert ([e.file.filename[4] for e in more.entries if e.file], more.restarted) == (["3"], False)
    gone = ReleaseJournal([third, first]).read(begun.cursor)
    assert ([e.file.filename[4] for e in gone.entries if e.file], gone.restarted) == (["1", "3"], True)
    for cursor in ("", "x", "9:y", "-1:z", ":"):
        assert journal.read(cursor).restarted


APP = 'app_id = "1"\ninstallation_id = "2"\nprivate_key = """\n-----BEGIN RSA PRIVATE KEY-----\nhidden\n"""\n'


@pytest.mark.parametrize(
    ("secret", "kind"),
    [
        ("ghp_abc123", "Token"),
        (" github_pat_11A_b\n", "Token"),
        (APP, "AppInstallationAuth"),
        (
            msgspec.json.encode({"app_id": 1, "installation_id": 2, "private_key": "-----BEGIN x"}).decode(),
            "AppInstallationAuth",
        ),
    ],
)
def test_secrets_of_the_server(secret, kind):
    assert type(parse_credentials(secret)).__name__ == kind


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "two hidden",
        "hidden\nhidden",
        APP.replace('"2"', '"hidden"'),
        APP.replace("-----BEGIN", "hidden"),
        APP + "hidden = 1",
        "{private_key hidden",
        'private_key = "-----BEGIN hidden"',
    ],
)
def test_a_secret_of_no_form_is_refused_and_not_shown(secret):
    with pytest.raises(InvalidConfigError) as raised:
        parse_credentials(secret)
    assert "hidden" not in str(raised.value)
    assert raised.value.__cause__ is None


@pytest.mark.parametrize("secret", ["a b", "a\nb", "a/../b", "tökén", "a;b"])
def test_what_can_be_no_token_is_not_sent_to_github(secret):
    with pytest.raises(UnauthenticatedError):
        parse_client_token(secret)


@pytest.mark.parametrize("secret", ["ghp_abc", "github_pat_1_2-x", "ghs_123_aaaa.bbbb-_.cccc", "0" * 40])
def test_tokens_of_each_kind(secret):
    assert parse_client_token(secret).token == secret


def jwt(matched):
    """Return an unsigned token like GitHub's that expires in the matched number of seconds."""
    claims = {"nbf": 0, "exp": time.time() + int(matched[1])}
    return ".".join(
        base64.urlsafe_b64encode(one).decode().rstrip("=") for one in (b"{}", msgspec.json.encode(claims), b"x")
    )


@pytest.mark.parametrize(
    ("url", "least_s", "most_s"),
    [
        ("https://x/y?sp=r&se=2099-01-01T00%3A00%3A00Z&sig=s", 300, 300),
        # GitHub's own token expires before the storage's signature.
        ("https://x/y?se=2099-01-01T00%3A00%3A00Z&jwt=IN99", 97, 99),
        ("https://x/y?jwt=IN-99", -101, -99),
        ("https://x/y?se=2001-01-01T00%3A00%3A00Z&jwt=IN99", -(10**10), 0),
        ("https://x/y?se=2099-01-01T00%3A00%3A00Z&jwt=a.b.c", 59, 60),
        ("https://x/y?jwt=never", 59, 60),
        ("https://x/y?se=2001-01-01T00%3A00%3A00Z", -(10**10), 0),
        ("https://x/y?X-Amz-Expires=300&X-Amz-Signature=s", 299, 300),
        ("https://x/y?X-Amz-Date=20010101T000000Z&X-Amz-Expires=300", -(10**10), 0),
        ("https://x/y?se=never", 59, 60),
        ("https://x/y", 60, 60),
    ],
)
def test_how_long_a_signed_url_lives(url, least_s, most_s):
    assert least_s <= life_s(re.sub(r"IN(-?\d+)", jwt, url)) <= most_s
