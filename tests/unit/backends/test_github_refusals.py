"""Check what each refusal of GitHub's means to a user."""

import pytest

from pywharf.backends.github.answer import Answer
from pywharf.backends.github.refusals import Step, refusal, refusal_of_call, unreachable
from pywharf.core.errors import (
    BackendUnavailableError,
    FileExistsInRepoError,
    ForbiddenError,
    IndexConflictError,
    InvalidConfigError,
    InvalidUploadError,
    NotFoundError,
    RateLimitedError,
    UnauthenticatedError,
)

NAMES = {
    "tag": "a-1.zip",
    "branch": "main",
    "repository": "acme/wheels",
    "action": "Write README.md",
    "remedy": "Run it again.",
}
RULE = "GitHub does not take the index into the branch 'main': {}. Where a rule protects"
TABLE = [
    (Step.SERVERS_CALL, 301, "Moved Permanently", BackendUnavailableError, "GitHub redirects: the repository has"),
    (Step.SERVERS_CALL, 307, "", BackendUnavailableError, "GitHub redirects: the repository has another name now"),
    (Step.SERVERS_CALL, 401, "Bad credentials", BackendUnavailableError, "GitHub refuses the server's token: it is"),
    (
        Step.SERVERS_CALL,
        403,
        "Resource not accessible",
        BackendUnavailableError,
        "GitHub does not allow this with the server's token (Resource not accessible).",
    ),
    (Step.SERVERS_CALL, 403, "", BackendUnavailableError, "GitHub does not allow this with the server's token."),
    (Step.SERVERS_CALL, 500, "", BackendUnavailableError, "GitHub answers 500; try again."),
    (Step.SERVERS_CALL, 502, "Server Error", BackendUnavailableError, "GitHub answers 502 (Server Error); try again."),
    (Step.CLIENTS_CALL, 308, "", BackendUnavailableError, "GitHub redirects: the repository has another name now"),
    (Step.CLIENTS_CALL, 401, "Bad credentials", UnauthenticatedError, "GitHub does not know this token; it is wrong"),
    (Step.CLIENTS_CALL, 403, "No.", ForbiddenError, "GitHub does not allow this with your token (No.)."),
    (Step.CLIENTS_CALL, 503, "", BackendUnavailableError, "GitHub answers 503; try again."),
    (Step.FETCH_TOKEN, 404, "x", BackendUnavailableError, "GitHub gives the App's installation no token (status 404);"),
    (Step.QUERY, 404, "Could not resolve", BackendUnavailableError, "GitHub answers a query with Could not resolve;"),
    (Step.QUERY, 422, "", BackendUnavailableError, "GitHub answers a query with 422; check owner, repo and the token."),
    (
        Step.LIST_RELEASES,
        404,
        "Not Found",
        BackendUnavailableError,
        "GitHub shows no repository acme/wheels to the server's token (status 404); check owner, repo and what the",
    ),
    (Step.FIND_FILE, 404, "", NotFoundError, "The file is no longer in the storage."),
    (Step.FIND_FILE, 422, "", BackendUnavailableError, "GitHub names no address of the file (status 422); try again."),
    (
        Step.PUBLISH,
        404,
        "Not Found",
        ForbiddenError,
        "This token may not publish in the GitHub repository (Not Found).",
    ),
    (Step.PUBLISH, 404, "", ForbiddenError, "This token may not publish in the GitHub repository (status 404)."),
    (Step.PUBLISH, 422, "Repository is empty.", BackendUnavailableError, "The GitHub repository is empty: a release"),
    (Step.PUBLISH, 422, "tag_name is bad", InvalidUploadError, "GitHub does not take 'a-1.zip': tag_name is bad."),
    (Step.PUBLISH, 409, "", InvalidUploadError, "GitHub does not take 'a-1.zip': status 409."),
    (Step.CHANGE, 404, "Not Found", ForbiddenError, "This token may not change releases of the GitHub repository (Not"),
    (Step.CHANGE, 422, "body is long.", BackendUnavailableError, "GitHub does not change the release 'a-1.zip': body"),
    (
        Step.WRITE_CHANGES,
        404,
        "Not Found",
        ForbiddenError,
        "The branch 'main' is not there, or this token may not write",
    ),
    (Step.WRITE_CHANGES, 409, "main is at 1 but expected 2", IndexConflictError, "The index was replaced by another"),
    (
        Step.WRITE_CHANGES,
        409,
        "No.",
        BackendUnavailableError,
        "GitHub does not take the change into the branch 'main': No.",
    ),
    (Step.WRITE_INDEX, 404, "Not Found", BackendUnavailableError, "The branch 'main' is not there, or the server's"),
    (Step.WRITE_INDEX, 409, "main is at 1 but expected 2", IndexConflictError, "The index was replaced by another"),
    (Step.WRITE_INDEX, 409, "index.toml does not match 3", IndexConflictError, "The index was replaced by another"),
    (Step.WRITE_INDEX, 422, "sha wasn't supplied.", IndexConflictError, "The index was replaced by another"),
    (Step.WRITE_INDEX, 409, "Rule violations:\n\n two.", BackendUnavailableError, RULE.format("Rule violations: two")),
    (
        Step.SHOW_REPOSITORY,
        409,
        "Odd",
        InvalidConfigError,
        "GitHub does not tell of the repository (status 409, Odd).",
    ),
    (Step.PREPARE_REPOSITORY, 404, "", ForbiddenError, "GitHub answers 404: not there, or not for your token."),
    (
        Step.PREPARE_REPOSITORY,
        422,
        "name exists",
        InvalidConfigError,
        "Write README.md: GitHub refuses it (status 422, name exists). Run it again.",
    ),
]


@pytest.mark.parametrize(("step", "status", "message", "kind", "begins"), TABLE)
def test_the_table(step, status, message, kind, begins):
    error = refusal(step, Answer(status, {}, {"message": message}), **NAMES)
    assert type(error) is kind
    assert str(error).startswith(begins)


def test_the_table_is_whole():
    assert {row[0] for row in TABLE} == set(Step)


def test_a_tag_that_exists():
    answer = Answer(422, {}, {"message": "Validation Failed", "errors": [{"code": "already_exists"}]})
    error = refusal(Step.PUBLISH, answer, tag="a-1.zip")
    assert isinstance(error, FileExistsInRepoError)
    assert str(error).startswith("File already exists: a-1.zip with other content.")


def test_braces_of_an_answer_are_no_part_of_a_sentence():
    error = refusal(Step.PUBLISH, Answer(422, {}, {"message": "{tag} {0}"}), tag="{a}")
    assert str(error) == "GitHub does not take '{a}': {tag} {0}."


def test_a_connection_that_fails_shows_nothing_of_what_was_sent():
    error = unreachable(ConnectionError("token hidden"))
    assert str(error) == "GitHub cannot be reached, or broke off (ConnectionError); try again."


NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("status", "headers", "message", "wait_s"),
    [
        (403, {"retry-after": "17"}, "You have exceeded a secondary rate limit", 17),
        (429, {"retry-after": "5"}, "", 5),
        (403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(NOW + 99)}, "API rate limit exceeded", 100),
        (403, {"x-ratelimit-remaining": "12"}, "You have exceeded a secondary rate limit", 60),
        (403, {"x-ratelimit-remaining": "12"}, "was submitted too quickly", 60),
        (403, {}, "Maximum number of login attempts exceeded. Please try again later.", 60),
        (429, {"retry-after": "soon"}, "", 60),
        (429, {"retry-after": "1e999"}, "", 60),
        (429, {"retry-after": "999999999"}, "", 86400),
        (429, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(NOW - 5)}, "", 1),
    ],
)
def test_limits_say_how_long(status, headers, message, wait_s):
    error = refusal_of_call(Answer(status, headers, {"message": message}), NOW, is_clients=False)
    assert isinstance(error, RateLimitedError)
    assert error.retry_after_s == wait_s
    assert str(wait_s) in str(error)


def test_the_limit_of_queries():
    """GitHub reports this limit with status 200, and PyGithub with 400."""
    data = {"errors": [{"type": "RATE_LIMITED", "message": "API rate limit already exceeded"}]}
    headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(NOW + 9)}
    error = refusal_of_call(Answer(400, headers, data), NOW, is_clients=False)
    assert isinstance(error, RateLimitedError)
    assert error.retry_after_s == 10
    other = refusal_of_call(
        Answer(400, {}, {"errors": [{"message": "Something went wrong"}, "odd"]}), NOW, is_clients=False
    )
    assert "Something went wrong" in str(other)


@pytest.mark.parametrize(
    ("status", "is_clients", "name"),
    [
        (200, False, None),
        (302, False, None),
        (304, False, None),
        (404, False, None),
        (409, False, None),
        (422, True, None),
        (401, False, "BackendUnavailableError"),
        (401, True, "UnauthenticatedError"),
        (403, False, "BackendUnavailableError"),
        (403, True, "ForbiddenError"),
        (500, True, "BackendUnavailableError"),
        (502, False, "BackendUnavailableError"),
        (418, False, "BackendUnavailableError"),
    ],
)
def test_statuses_and_what_they_mean(status, is_clients, name):
    error = refusal_of_call(Answer(status, {}, None), NOW, is_clients=is_clients)
    assert (type(error).__name__ if error else None) == name
