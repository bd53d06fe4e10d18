"""Tests of the tables `[[NAME.access]]`: what they may say, and the sentence for what they may not."""

from datetime import UTC, datetime

import pytest

from pywharf.config.repo_config import FileSystemSpec, parse_config
from pywharf.core.access.entries import AccessEntry, Github, Gitlab, Oidc, ServiceAccountRef
from pywharf.core.errors import InvalidConfigError
from pywharf.core.names import RepoName

DIGEST = "sha256:" + "a" * 64
TOKENS = f'token_digests = ["{DIGEST}"]'
OIDC = 'oidc = {issuer = "corp", '
PROJECTS = [f"p{n}" for n in range(251)]
HEAD = '[[team-a.access]]\nname = "ci"\npermission = "Read"\n'
MOMENT = datetime(2027, 1, 31, tzinfo=UTC)


def entries(text: str) -> tuple[AccessEntry, ...]:
    config = f'[team-a]\ntype = "file_system"\n{text}\n'
    return parse_config(config, "", specs={"file_system": FileSystemSpec}).repos[RepoName("team-a")].access


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        (TOKENS, {"token_digests": (DIGEST,)}),
        (f'{TOKENS}\nprojects = ["acme-*", "*"]', {"token_digests": (DIGEST,), "projects": ("acme-*", "*")}),
        (f"{TOKENS}\nexpires = 2027-01-31T00:00:00Z", {"token_digests": (DIGEST,), "expires": MOMENT}),
        (f'{TOKENS}\nexpires = "2027-01-31T01:00:00+01:00"', {"token_digests": (DIGEST,), "expires": MOMENT}),
        (
            'service_accounts = [{namespace = "ml", name = "*"}]',
            {"service_accounts": (ServiceAccountRef(namespace="ml", name="*"),)},
        ),
        (
            'github = {repository = "a/b", workflow = "r.yml", owner_id = 7}',
            {"github": Github(repository="a/b", workflow="r.yml", owner_id=7)},
        ),
        (
            'gitlab = {project = "a/b/c", ref = "v*", ref_type = "tag", namespace_id = 7}',
            {"gitlab": Gitlab(project="a/b/c", ref="v*", ref_type="tag", namespace_id=7)},
        ),
        (
            'oidc = {issuer = "corp", claims = {sub = "b-*", n = 1, b = true}}',
            {"oidc": Oidc(issuer="corp", claims={"sub": "b-*", "n": 1, "b": True})},
        ),
        ('proxy_groups = ["devs"]', {"proxy_groups": ("devs",)}),
    ],
)
def test_an_entry(text, fields):
    assert entries(HEAD + text) == (AccessEntry(name="ci", permission="Read", **fields),)


MANY = "\n".join(HEAD.replace("ci", f"c{number}") + TOKENS for number in range(65))
COSTLY = [f"*-x{number}" for number in range(65)]
ONE_KIND = "the entry 'ci' must have exactly one of token_digests, service_accounts, github, gitlab, oidc and"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (HEAD, ONE_KIND),
        (HEAD + TOKENS + '\nproxy_groups = ["x"]', ONE_KIND),
        (HEAD + TOKENS + "\nexpires = 2027-01-31T00:00:00", "the entry 'ci': expires has no time zone; end it with Z."),
        (HEAD + TOKENS + '\nexpires = "soon"', "access[0].expires is 'soon': invalid RFC3339"),
        (HEAD + 'token_digests = ["pywharf_secret"]', "access[0].token_digests[0]: expected `str` matching regex"),
        (HEAD + TOKENS + "\n" + HEAD + TOKENS, "access has two entries with the name 'ci'"),
        (HEAD + TOKENS + '\nprojects = ["a b"]', "the entry 'ci': projects has 'a b'; write a project's name"),
        (HEAD + TOKENS + "\nprojects = []", "the entry 'ci': projects is empty"),
        (HEAD + 'service_accounts = [{namespace = "ml", name = "x-*"}]', "service_accounts has ml/x-*; * stands only"),
        (HEAD + 'service_accounts = [{namespace = "*", name = "x"}]', "service_accounts has */x; * stands only"),
        (HEAD + 'github = {repository = "a/b", workflow = "r.yml"}', "missing required field `owner_id`"),
        (HEAD + 'github = {repository = "a/*", workflow = "r", owner_id = 1}', "access[0].github.repository is 'a/*'"),
        (HEAD + 'oidc = {issuer = "corp", claims = {}}', "access[0].oidc.claims: expected `object` of length >= 1"),
        (
            HEAD + OIDC + 'claims = {sub = "*-*-*-*-*-*-*-*-*"}}',
            "the entry 'ci': the claim 'sub' has 9 times *; at most 8",
        ),
        (
            HEAD + 'gitlab = {project = "a/b", namespace_id = 1, ref_type = "commit"}',
            "access[0].gitlab.ref_type is 'commit'",
        ),
        (
            HEAD + 'gitlab = {project = "a/b", namespace_id = 1, ref = "*********"}',
            "the entry 'ci': the claim 'ref' has 9 times *; at most 8 are allowed",
        ),
        (
            HEAD + OIDC + f"claims = {{{', '.join(f'c{n} = 1' for n in range(17))}}}}}",
            "access[0].oidc.claims: expected `object` of length <= 16",
        ),
        (
            "".join(
                HEAD.replace("ci", f"e{n}") + OIDC + 'claims = {a = "*", b = "b*", c = "c*"}}\n' for n in range(43)
            ),
            "the access entries have 129 claims with a *; at most 128 are allowed",
        ),
        (
            "".join(HEAD.replace("ci", f"e{n}") + TOKENS + f"\nprojects = {PROJECTS}\n" for n in range(4)),
            "projects of the access entries have 1004 patterns together; at most 1000 are allowed",
        ),
        (HEAD + TOKENS + '\nproject = "a"', "the field 'access[0].project' is unknown"),
        (HEAD.replace("Read", "Write") + TOKENS, "access[0].permission is 'Write'"),
        (HEAD.replace("ci", "c i") + TOKENS, "access[0].name is 'c i'"),
        (
            "\n".join(HEAD.replace("ci", f"c{n}") + TOKENS for n in range(65)),
            "access: expected `array` of length <= 64",
        ),
    ],
)
def test_a_wrong_entry_is_refused_with_a_sentence(text, sentence):
    with pytest.raises(InvalidConfigError) as raised:
        entries(text)
    assert sentence in str(raised.value)
    assert "secret" not in str(raised.value)
