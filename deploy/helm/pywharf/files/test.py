"""`helm test`: publishes a wheel and installs it, with the standard library alone."""

import base64
import hashlib
import io
import json
import os
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from urllib.parse import urljoin

INDEX, REPO = os.environ["INDEX"], os.environ["REPO"]
READ, WRITE = os.environ["READ"], os.environ["WRITE"]
LONGEST_S = float(os.environ.get("LONGEST_S", "240"))
AUTHORITY = Path(os.environ.get("AUTHORITY", "/etc/authority/ca.crt"))
PROJECT = "pywharf_helm_test"
VERSION = f"1.{int(time.time())}"
WHEEL = f"{PROJECT}-{VERSION}-py3-none-any.whl"
JSON = "application/vnd.pypi.simple.v1+json"

context = ssl.create_default_context(cafile=str(AUTHORITY) if AUTHORITY.exists() else None)
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))


def ask(url, password, body=None, headers=()):
    """Status and body of the answer."""
    basic = base64.b64encode(f"{REPO}:{password}".encode()).decode()
    request = urllib.request.Request(url, body, {"Authorization": f"Basic {basic}", **dict(headers)})
    try:
        with opener.open(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def until(wanted, what):
    """Ask again until it is so; the last answer is said where it never is."""
    end = time.monotonic() + LONGEST_S
    while True:
        try:
            answer = wanted()
            if answer is not None:
                return answer
            seen = "not yet"
        except OSError as error:  # a name that is not known yet, a server that starts
            seen = error
        if time.monotonic() > end:
            sys.exit(f"FAILED: {what}: {seen}")
        time.sleep(1)


def expect(status, answer, what):
    if answer[0] != status:
        sys.exit(f"FAILED: {what}: {answer[0]} instead of {status}: {answer[1][:500]!r}")
    print(f"ok: {what}", flush=True)


def served():
    status, _ = ask(INDEX, READ)
    if status == 200:
        return True
    raise OSError(f"HTTP {status}; kubectl describe packageserver pywharf, and the operator's log, say why")


def wheel():
    info = f"{PROJECT}-{VERSION}.dist-info"
    parts = {
        f"{PROJECT}.py": f'VERSION = "{VERSION}"\n',
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {PROJECT}\nVersion: {VERSION}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: helm-test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        "{},sha256={},{}\n".format(
            name,
            base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode(),
            len(text),
        )
        for name, text in parts.items()
    )
    parts[f"{info}/RECORD"] = record + f"{info}/RECORD,,\n"
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in parts.items():
            archive.writestr(name, text)
    return file.getvalue()


def form(content):
    """Body and headers of the upload that twine sends."""
    fields = {
        ":action": "file_upload",
        "protocol_version": "1",
        "metadata_version": "2.1",
        "name": PROJECT,
        "version": VERSION,
        "filetype": "bdist_wheel",
        "pyversion": "py3",
        "sha256_digest": hashlib.sha256(content).hexdigest(),
    }
    mark = hashlib.sha256(content).hexdigest()
    body = b"".join(
        f'--{mark}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    )
    body += f'--{mark}\r\nContent-Disposition: form-data; name="content"; filename="{WHEEL}"\r\n'.encode()
    body += b"Content-Type: application/octet-stream\r\n\r\n" + content + f"\r\n--{mark}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={mark}"}


def found():
    """The file on the project's page, also where another replica took it."""
    page = urljoin(INDEX, PROJECT.replace("_", "-") + "/")
    status, body = ask(page, READ, headers={"Accept": JSON})
    if status == 404:
        return None
    if status != 200:
        raise OSError(f"HTTP {status}")
    files = [file for file in json.loads(body)["files"] if file["filename"] == WHEEL]
    return (urljoin(page, files[0]["url"]), files[0]["hashes"]["sha256"]) if files else None


def main():
    until(served, f"{INDEX} answers")
    content = wheel()
    body, headers = form(content)
    expect(401, ask(INDEX, "wrong"), "wrong credentials are refused")
    expect(403, ask(INDEX, READ, body, headers), "the read secret may not publish")
    expect(200, ask(INDEX, WRITE, body, headers), f"{WHEEL} is published")
    url, digest = until(found, f"{WHEEL} is on its project's page")
    answer = ask(url, READ)
    expect(200, answer, f"{WHEEL} is downloaded")
    if not digest == hashlib.sha256(answer[1]).hexdigest() == hashlib.sha256(content).hexdigest():
        sys.exit(f"FAILED: {WHEEL} came back changed")
    with tempfile.TemporaryDirectory() as folder:
        zipfile.ZipFile(io.BytesIO(answer[1])).extractall(folder)
        script = f"import sys; sys.path.insert(0, {folder!r}); import {PROJECT}; print({PROJECT}.VERSION)"
        said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    expect(VERSION, (said.stdout.strip(), said.stderr.encode()), "it is installed and can be imported")


main()
