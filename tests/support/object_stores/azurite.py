"""A real implementation of Azure Blob Storage for tests: Azurite."""

import base64
import contextlib
import hashlib
import hmac
import os
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from support.npm_packages import installed
from support.object_stores.store import ObjectStore, answers, process
from support.ports import free_port

ACCOUNT = "testaccount"
CONTAINER = "packages"


def azurite_modules() -> Path:
    """Return the folder of Azurite's packages. Skips the calling test if they cannot be installed."""
    return installed(Path(__file__).with_name("azurite"))


@contextlib.contextmanager
def running_azure(folder: Path) -> Iterator[ObjectStore]:
    """Run the server within the context, with an account of the tests' own."""
    modules = azurite_modules()
    port = free_port()
    key = base64.b64encode(os.urandom(32)).decode()
    command = [
        str(modules / "node" / "bin" / "node"),
        str(modules / "azurite" / "dist" / "src" / "blob" / "main.js"),
        *("--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(folder)),
        *("--silent", "--skipApiVersionCheck", "--disableTelemetry"),
    ]
    environment = {"PATH": os.environ["PATH"], "AZURITE_ACCOUNTS": f"{ACCOUNT}:{key}"}
    url = f"http://127.0.0.1:{port}/{ACCOUNT}"
    with process(command, folder.with_name("azurite.log"), environment, lambda: answers(port)):
        _create_container(url, key)
        place = {"account": ACCOUNT, "container": CONTAINER}
        yield ObjectStore("azure", url, f'account_key = "{key}"\n', place, folder)


def _create_container(url: str, key: str) -> None:
    """Create the container with a request signed by the account's key ("Authorize with Shared Key", Azure's docs)."""
    date = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    headers = f"x-ms-date:{date}\nx-ms-version:2021-12-02"
    resource = f"/{ACCOUNT}/{ACCOUNT}/{CONTAINER}\nrestype:container"
    text = "PUT" + "\n" * 12 + f"{headers}\n{resource}"
    signature = base64.b64encode(hmac.digest(base64.b64decode(key), text.encode(), hashlib.sha256)).decode()
    request = urllib.request.Request(f"{url}/{CONTAINER}?restype=container", method="PUT")
    for line in headers.split("\n"):
        name, _, value = line.partition(":")
        request.add_header(name, value)
    request.add_header("Authorization", f"SharedKey {ACCOUNT}:{signature}")
    with urllib.request.urlopen(request, timeout=20):
        pass
