"""A private authority and its certificate for loopback, made with openssl."""

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

from support.parts import require

_AUTHORITY = """
[req]
distinguished_name = name
x509_extensions = extensions
prompt = no
[name]
CN = pywharf tests
[extensions]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
"""
_SERVER = """
[req]
distinguished_name = name
x509_extensions = extensions
prompt = no
[name]
CN = localhost
[extensions]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = {names}
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""
_CLIENT = """
[req]
distinguished_name = name
x509_extensions = extensions
prompt = no
[name]
{name}
[extensions]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


@dataclass(frozen=True)
class Certificates:
    """Paths of PEM files."""

    authority: Path
    cert: Path
    key: Path

    @property
    def flags(self) -> tuple[str, str]:
        """The TLS flags for `pywharf server`."""
        return f"--tls_cert={self.cert}", f"--tls_key={self.key}"

    def server_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.cert, self.key)
        return context

    def client_context(self) -> ssl.SSLContext:
        """Return a context that trusts only this authority."""
        return ssl.create_default_context(cafile=str(self.authority))


def certificates(folder: Path, *more_names: str) -> Certificates:
    """Make an authority and a server certificate in `folder`, valid for two days.

    `more_names` are in openssl's form, such as IP:10.0.0.1.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _make(folder / "authority.cnf", _AUTHORITY, folder / "authority.pem", folder / "authority.key")
    return server_certificate(folder, "server", *more_names)


def server_certificate(folder: Path, name: str, *more_names: str) -> Certificates:
    """Make `name`.pem and `name`.key, signed by the authority in `folder`."""
    made = Certificates(folder / "authority.pem", folder / f"{name}.pem", folder / f"{name}.key")
    config = _SERVER.format(names=", ".join(("DNS:localhost", "IP:127.0.0.1", *more_names)))
    authority = ("-CA", str(made.authority), "-CAkey", str(folder / "authority.key"))
    _make(folder / f"{name}.cnf", config, made.cert, made.key, *authority)
    return made


def client_certificate(folder: Path, name: str, user: str, group: str | None = None) -> None:
    """Make `name`.pem and `name`.key for the API server (CN: user, O: group), signed by the authority in `folder`."""
    subject = "\n".join([f"CN = {user}", *([f"O = {group}"] if group else [])])
    authority = ("-CA", str(folder / "authority.pem"), "-CAkey", str(folder / "authority.key"))
    config, paths = _CLIENT.format(name=subject), (folder / f"{name}.pem", folder / f"{name}.key")
    _make(folder / f"{name}.cnf", config, *paths, *authority)


def key_pair(folder: Path, name: str) -> tuple[Path, Path]:
    """Make a pair of keys; returns the paths of the private and the public key."""
    private, public = folder / f"{name}.key", folder / f"{name}.pub"
    _openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", str(private))
    _openssl("pkey", "-in", str(private), "-pubout", "-out", str(public))
    return private, public


def _make(config_path: Path, config: str, cert: Path, key: Path, *signer: str) -> None:
    config_path.write_text(config)
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc")
    where = ("-config", str(config_path), "-days", "2", "-out", str(cert), "-keyout", str(key))
    _openssl("req", "-x509", *new_key, *where, *signer)


def _openssl(*arguments: str) -> None:
    openssl = require("openssl", "apt-get install openssl")
    done = subprocess.run([str(openssl), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"openssl failed:\n{done.stderr}"
