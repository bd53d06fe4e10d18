"""PURE but for its memory. The parsing of custom resources and namespaces; what has not changed is not parsed again."""

import re
from typing import Any, TypeVar

import msgspec

from pywharf_operator.cluster.trimming import MOST_SPEC_BYTES, OVERSIZE
from pywharf_operator.render import Finding
from pywharf_operator.spec import ObjectKey, PackagePolicy, PackageRepo, PackageServer, Resource
from pywharf_operator.spec.explain import explain
from pywharf_operator.spec.kinds import Json
from pywharf_operator.spec.package_policy import PackagePolicyStatus
from pywharf_operator.spec.package_repo import PackageRepoStatus
from pywharf_operator.spec.package_server import PackageServerStatus

R = TypeVar("R", bound=Resource)


class Malformed(msgspec.Struct, frozen=True):
    """A repo that passed the schema and cannot be parsed."""

    key: ObjectKey
    raw: Json
    finding: Finding


class ParsedObjects:
    """The objects of one operator, each parsed once for each version of it."""

    def __init__(self) -> None:
        self._parsed: dict[str, tuple[str, Any]] = {}
        """The resourceVersion and the struct or a Finding, by uid."""

    def parse(self, raw: Json, struct: type[R]) -> R | Finding:
        """Return the struct, or why the object cannot be parsed."""
        known: R | Finding | None = self.known(raw)  # an object never changes its kind
        if known is not None:
            return known
        parsed = _parsed(raw, struct)
        if OVERSIZE not in raw:
            uid, version = _version(raw)
            self._parsed[uid] = (version, parsed)
        return parsed

    def known(self, raw: Json) -> Any:  # noqa: ANN401 - any kind's struct
        """Return what was made of this version of the object before; None if it must be parsed."""
        if OVERSIZE in raw:  # it may depend on other objects
            return None
        uid, version = _version(raw)
        known = self._parsed.get(uid)
        return known[1] if known is not None and known[0] == version else None

    def forget(self) -> None:
        """Clear the cache of parsed objects, which includes those that are gone."""
        self._parsed.clear()


def _version(raw: Json) -> tuple[str, str]:
    return str(raw["metadata"].get("uid")), str(raw["metadata"].get("resourceVersion"))


def _parsed(raw: Json, struct: type[R]) -> R | Finding:
    if OVERSIZE in raw:
        if "message" in raw[OVERSIZE]:
            return Finding(status=False, reason="InvalidSpec", message=str(raw[OVERSIZE]["message"]))
        message = (
            f"spec has {raw[OVERSIZE]['bytes']} bytes as JSON, and at most {MOST_SPEC_BYTES} are read; shorten "
            f"{raw[OVERSIZE]['field']}, which has the most."
        )
        return Finding(status=False, reason="InvalidSpec", message=message)
    # What somebody wrote into a status must not make the spec unreadable.
    status = _status(raw, struct)
    item = {key: value for key, value in raw.items() if key != "status"}
    try:
        return msgspec.convert(item | ({"status": status} if status is not None else {}), struct)
    except msgspec.ValidationError as error:
        return Finding(status=False, reason="InvalidSpec", message=_sentence(explain(error, item, struct)))


def _sentence(text: str) -> str:
    """Capitalize the text, unless it begins with a field, whose name keeps its spelling."""
    return text if _FIELD.match(text) else text[:1].upper() + text[1:]


_FIELD = re.compile(r"(apiVersion|kind|metadata|spec)\b")


_STATUS: dict[type[Resource], type[msgspec.Struct]] = {
    PackageRepo: PackageRepoStatus,
    PackageServer: PackageServerStatus,
    PackagePolicy: PackagePolicyStatus,
}


def _status(raw: Json, struct: type[Resource]) -> object:
    kind = _STATUS.get(struct)
    if kind is None:
        return None
    try:
        msgspec.convert(raw.get("status") or {}, kind)
    except msgspec.ValidationError:
        return None
    return raw.get("status") or None
