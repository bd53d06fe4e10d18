"""The source of the configuration: files, texts, or a submission to `/initialize/`. Read whole, polled for changes.

A poll is a few stat calls, several times a second. It follows links, so it notices when a ConfigMap's `..data` link
moves, and it works on every volume.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import msgspec

from pywharf.config.repo_config import BackendSpec, Secret, SecretRef, ServerConfig, config_digest, parse_config
from pywharf.core.access.deciding import CompiledEntries
from pywharf.core.errors import IncompleteConfigError, InvalidConfigError
from pywharf.core.msgspec_warmup import warmed_up
from pywharf.core.names import RepoName
from pywharf.core.redaction import Redacted
from pywharf.core.secret_text import secret_text, token_text
from pywharf.serving.config_files import read_text, take_arrived
from pywharf.serving.definitions import SOURCE_SECRETS, LoadedConfig, RepoDefinition, definitions, source_field
from pywharf.serving.identity_file import IdentityFile
from pywharf.serving.metrics import Metrics
from pywharf.serving.policy_file import PolicyFile
from pywharf.serving.watched_files import (
    Seen,
    exists,
    has_changed,
    plain_and_compressed,
    take_if_there,
    take_plain_or_compressed,
)

_logger = logging.getLogger(__name__)
_POLL_S = 0.25
_READS = 5
_DOCUMENTS = {
    "policies_file": "a policies_file, whose policies",
    "identity_file": "an identity_file, whose issuers",
}
"""The documents beside a configuration, by key, and what each one says."""


@warmed_up
class SubmittedConfig(msgspec.Struct, frozen=True):
    """The configuration submitted to `/initialize/`."""

    config: str
    admin_secret: str = ""

    def __repr__(self) -> str:
        """Return a text without the secrets."""
        return "SubmittedConfig(...)"


class ConfigGiven(Redacted, frozen=True, kw_only=True):
    """The configuration as a command was given it: a path for each of its two parts, or its text."""

    config: str | None = None
    admin_secret: str | None = None
    can_be_text: bool = False
    """Whether a value that is no file's path is the text itself."""


class ConfigSource:
    """The reader of a configuration. Its calls block, so run them in threads."""

    def __init__(
        self,
        given: ConfigGiven,
        specs: Mapping[str, type[BackendSpec]],
        submitted: Path | None = None,
        *,
        with_policies: bool = True,
    ) -> None:
        """`with_policies` is False for commands that work on a storage, which no policy and no identity concerns."""
        self._given = given
        self._policies = PolicyFile() if with_policies else None
        self._identity = IdentityFile()
        self._specs = specs
        self._submitted = submitted
        """The file, shared by the workers, that holds a configuration submitted to `/initialize/`."""
        self._compiled: Mapping[RepoName, CompiledEntries] = {}
        """The access entries of the last configuration that was read."""
        self._seen: Seen = {}
        """The files that `load` read, in their state just before, so that no change is missed."""

    @property
    def takes_submissions(self) -> bool:
        """Return whether the configuration comes from no file, so that `/initialize/` may replace it."""
        return self._is_text(self._given.config) and self._is_text(self._given.admin_secret)

    def _is_text(self, given: str | None) -> bool:
        return given is None or (self._given.can_be_text and not any(map(exists, plain_and_compressed(given))))

    def load(self) -> LoadedConfig:
        """Read the whole configuration, again if a file changed meanwhile: the result must have existed at one time.

        Raises InvalidConfigError: one sentence that says what to do.
        """
        for left in reversed(range(_READS)):
            try:
                loaded = self._load_once()
            except InvalidConfigError:
                if not left or not self.changed():
                    raise
            else:
                if not self.changed():
                    return loaded
        raise IncompleteConfigError(
            "The files of the configuration change while they are read; they are taken as soon as they rest."
        )

    def _load_once(self) -> LoadedConfig:
        seen: Seen = {}
        try:
            if self._submitted is not None:
                submitted = take_if_there(str(self._submitted), seen)
                if submitted is not None:
                    return self.load_submitted(msgspec.json.decode(submitted, type=SubmittedConfig))
            config, source = self._text(self._given.config, "--config", seen)
            admin, admin_source = self._text(self._given.admin_secret, "--admin_secret", seen)
            parsed = parse_config(config, admin, specs=self._specs, source=source, admin_source=admin_source)
            return self._complete(parsed, config, admin, seen)
        finally:
            self._seen = seen

    def load_submitted(self, submitted: SubmittedConfig) -> LoadedConfig:
        """Read a configuration that a client submitted: it may name no file and no environment variable."""
        parsed = parse_config(
            submitted.config,
            submitted.admin_secret,
            specs=self._specs,
            source="config",
            admin_source="admin_secret",
        )
        for name, field, secret in _secrets(parsed):
            if isinstance(secret, SecretRef):
                raise InvalidConfigError(
                    f"config, table [{name}]: {field} names a file or variable; /initialize/ takes texts only."
                )
        if parsed.credentials_revision_file:
            raise InvalidConfigError("config: credentials_revision_file is not taken by /initialize/; leave it out.")
        for key in _DOCUMENTS:
            if getattr(parsed, key) is not None:
                raise InvalidConfigError(f"config: {key} is not taken by /initialize/; leave it out.")
        for key, whose in _DOCUMENTS.items():
            if self._given_document(key) is not None:
                raise InvalidConfigError(
                    f"config: the server's own configuration names {whose} a submitted one would end; change the "
                    "--config of the server instead."
                )
        return self._complete(parsed, submitted.config, submitted.admin_secret, {})

    def _given_document(self, key: str) -> str | None:
        """Return the file that the configuration names by `key` which the command was given as text."""
        text = self._given.config
        if text is None or not self._is_text(text):
            return None
        named: str | None = getattr(parse_config(text, "", specs=self._specs, source="--config"), key)
        return named

    def _text(self, given: str | None, flag: str, seen: Seen) -> tuple[str, str]:
        """Return the TOML text and its name in messages."""
        if given is None:
            return "", flag
        if self._is_text(given):
            return given, flag
        return read_text(given, flag, seen, take_plain_or_compressed), given

    def _complete(self, parsed: ServerConfig, config: str, admin_secret: str, seen: Seen) -> LoadedConfig:
        self._check_revision(parsed, seen)
        found: dict[tuple[RepoName, str], str] = {}
        for name, field, secret in _secrets(parsed):
            found[name, field] = resolve_secret(secret, f"table [{name}], {field}", seen)
        for name in parsed.admin_secrets.keys() - parsed.repos.keys():
            _logger.warning("The admin secret of %s is not used: the configuration has no such repo.", name)
        repos: Mapping[RepoName, RepoDefinition] = definitions(
            parsed, lambda name, field: found.get((name, field)), self._compiled
        )
        self._compiled = {name: one.credentials.entries for name, one in repos.items() if one.spec.access}
        if self._policies is None:
            return LoadedConfig(repos, config_digest(config, admin_secret))
        policies, identity = self._policies.load(parsed, seen), self._identity.load(parsed, seen)
        # A digest in the text makes the text change with the document, so that the operator needs only the text.
        of_policies = policies.digest if parsed.policies_digest is None else ""
        of_identity = identity.digest if parsed.identity_digest is None else ""
        digest = config_digest(config, admin_secret, of_policies, of_identity)
        return LoadedConfig(repos, digest, policies, identity)

    @staticmethod
    def _check_revision(parsed: ServerConfig, seen: Seen) -> None:
        """Refuse a configuration if some of its secrets have not arrived yet: they are delivered separately."""
        wanted = parsed.credentials_revision
        if wanted is None:
            return
        for path in parsed.credentials_revision_file:
            found = token_text(read_text(path, "credentials_revision_file", seen, take_arrived))
            if found != wanted:
                raise IncompleteConfigError(
                    f"The secrets of {path} are of the revision {found[:12]!r}, the configuration needs "
                    f"{wanted[:12]!r}; it is taken as soon as they arrive."
                )

    def changed(self) -> bool:
        """Return whether a file has changed since the last `load` read it (or failed to read it)."""
        return any(has_changed(path, file) for path, file in self._seen.items())


async def watch(
    source: ConfigSource,
    apply: Callable[[LoadedConfig], Awaitable[None]],
    metrics: Metrics,
    refused: Callable[[str], None] = lambda _reason: None,
) -> None:
    """Apply each new configuration until cancelled. A bad one is refused and logged once; the last good one stays.

    `refused` is called with the reason, in one sentence, and with "" once a configuration is applied.
    """
    while True:
        await asyncio.sleep(_POLL_S)
        if not await asyncio.to_thread(source.changed):
            continue
        try:
            loaded = await asyncio.to_thread(source.load)
            await apply(loaded)
        except InvalidConfigError as error:
            metrics.reloads.labels("refused").inc()
            metrics.config_valid.set(0)
            _logger.error("The new configuration is refused, the last good one stays: %s", error)  # noqa: TRY400
            # The rest of an incomplete one has yet to arrive.
            refused("" if isinstance(error, IncompleteConfigError) else str(error))
        except Exception:
            # After any error, the next configuration must still be noticed.
            metrics.reloads.labels("refused").inc()
            metrics.config_valid.set(0)
            _logger.exception("The new configuration cannot be served, the last good one stays.")
            refused("It cannot be served; see the log of the server.")
        else:
            refused("")
            metrics.reloads.labels("applied").inc()
            metrics.config_valid.set(1)
            _logger.info("A new configuration is served: %d repos.", len(loaded.repos))


def _secrets(parsed: ServerConfig) -> list[tuple[RepoName, str, Secret]]:
    found: list[tuple[RepoName, str, Secret]] = []
    for name, spec in parsed.repos.items():
        given = {"read_secret": spec.read_secret, "write_secret": spec.write_secret}
        if name in parsed.admin_secrets:
            given["admin_secret"] = parsed.admin_secrets[name].secret
        for number, source in enumerate(spec.upstream.sources):
            for field in SOURCE_SECRETS:
                given[source_field(number, field)] = getattr(source, field)
        found.extend((name, field, secret) for field, secret in given.items() if secret is not None)
    return found


def resolve_secret(secret: Secret, where: str, seen: Seen) -> str:
    """Return a secret's text; `where` names it in messages. Raises InvalidConfigError."""
    if isinstance(secret, str):
        value, origin = secret, "it"
    elif secret.env is not None:
        value, origin = os.environ.get(secret.env, ""), f"the environment variable {secret.env}"
    else:
        assert secret.file is not None  # noqa: S101 - a SecretRef has one of the two
        value, origin = read_text(secret.file, where, seen), f"the file {secret.file}"
    value = secret_text(value)
    if not value:
        raise InvalidConfigError(f"{where}: {origin} is empty or not set; give the secret there.")
    return value
