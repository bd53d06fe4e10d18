"""A real S3 server for tests: versitygw, over a folder."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from support.certificates import Certificates
from support.cluster.build import VERSITYGW, BuildError, build
from support.object_stores.store import ObjectStore, answers, process
from support.parts import missing
from support.ports import free_port

BUCKET = "packages"


def versitygw_program() -> Path:
    """Return the program. Skips the calling test if it cannot be built."""
    try:
        return build(VERSITYGW) / "versitygw"
    except BuildError as error:
        missing("versitygw", str(error))


def secret_of(access: str, key: str) -> str:
    """Return the secret of an s3 repo."""
    return f'access_key_id = "{access}"\nsecret_access_key = "{key}"\n'


@contextlib.contextmanager
def running_s3(folder: Path, tls: Certificates | None = None) -> Iterator[ObjectStore]:
    """Run the server within the context. Its data are in the folder, which may hold some."""
    program = versitygw_program()
    port = free_port()
    (folder / BUCKET).mkdir(parents=True, exist_ok=True)
    access, key = "access-of-tests", secrets.token_hex(12)
    secure = [] if tls is None else [f"--cert={tls.cert}", f"--key={tls.key}"]
    command = [str(program), "--quiet", "--keep-alive", *secure, "--port", f"127.0.0.1:{port}", "posix", str(folder)]
    environment = {"PATH": os.environ["PATH"], "ROOT_ACCESS_KEY": access, "ROOT_SECRET_KEY": key}
    url = f"{'http' if tls is None else 'https'}://127.0.0.1:{port}"
    with process(command, folder.with_name("versitygw.log"), environment, lambda: answers(port)):
        yield ObjectStore("s3", url, secret_of(access, key), {"bucket": BUCKET}, folder / BUCKET)
