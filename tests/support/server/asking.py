"""Requests to a repo for which only the status matters."""

import base64
import contextlib
import threading
from collections.abc import Iterator
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

_OPENER = build_opener(ProxyHandler({}))


def index_status(url: str, repo: str, secret: str) -> int:
    """Return the status of a repo's index page on the server at `url`; 0 if the server does not answer."""
    login = base64.b64encode(f"{repo}:{secret}".encode()).decode()
    request = Request(f"{url}/repo/{repo}/simple/", headers={"Authorization": f"Basic {login}"})
    try:
        with _OPENER.open(request, timeout=10) as answer:
            return int(answer.status)
    except HTTPError as error:
        error.close()
        return error.code
    except OSError:
        return 0


@contextlib.contextmanager
def asked_all_the_time(url: str, repo: str, secret: str) -> Iterator[list[int]]:
    """Request the index page repeatedly within the context; yields the list that collects the statuses."""
    answers: list[int] = []
    end = threading.Event()

    def ask() -> None:
        while not end.wait(0.05):
            answers.append(index_status(url, repo, secret))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield answers
    finally:
        end.set()
        asking.join()
