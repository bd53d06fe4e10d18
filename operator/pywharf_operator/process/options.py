"""PURE. The flags of `pywharf operator`."""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from pywharf import __version__
from pywharf.core.errors import InvalidConfigError
from pywharf_operator.spec import ObjectKey
from pywharf_operator.spec.forms import NAMESPACE, OBJECT_NAME
from pywharf_operator.spec.model import Model
from pywharf_operator.spec.own_metadata import OwnAnnotations, OwnLabels, key_rules

LEASE_NAME: Final = "pywharf-operator"


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The values of the flags."""

    namespace: tuple[str, ...] = ()
    all_namespaces: Annotated[bool, Meta(description="Look after every namespace; needs a ClusterRole.")] = False
    leader_elect: Annotated[bool, Meta(description="Of several replicas let the one work that holds the Lease.")] = (
        False
    )
    lease_namespace: Annotated[
        str | None,
        Meta(description="Namespace of the Lease. Default: the pod's own, otherwise the first that is watched."),
    ] = None
    lease_name: Annotated[
        str, Meta(description="Name of the Lease: another for each of several operators of its namespace.")
    ] = LEASE_NAME
    lease_metadata: Annotated[
        str,
        Meta(
            description=(
                'Labels and annotations of the Lease, as JSON: \'{"labels": {…}, "annotations": {…}}\'. Empty: none.'
            )
        ),
    ] = ""
    image: Annotated[str, Meta(description="Image of the servers whose PackageServer names none.")] = (
        f"pywharf:{__version__}"
    )
    resync: Annotated[
        int,
        Meta(ge=1, le=86400, description="Seconds between two looks at everything; chance adds up to as many again."),
    ] = 300
    host: Annotated[
        str, Meta(description="Address that probes and metrics listen on; `::`: all, of IPv6 and IPv4.")
    ] = "::"
    port: Annotated[int, Meta(ge=0, le=65535, description="Port of probes and metrics; 0: any free one.")] = 8081
    debug: Annotated[bool, Meta(description="Log at the debug level.")] = False


def checked(options: Options) -> Options:
    """Check the options and return them with each namespace once. Raises InvalidConfigError."""
    names = tuple(dict.fromkeys(name for given in options.namespace for name in given.replace(",", " ").split()))
    if bool(names) == options.all_namespaces:
        raise InvalidConfigError(
            "--namespace and --all-namespaces exclude each other; give one of them."
            if names
            else "What to look after is missing: give --namespace=NAME (once for each) or --all-namespaces."
        )
    given = [("--namespace", name, NAMESPACE) for name in names]
    given += [("--lease_namespace", name, NAMESPACE) for name in (options.lease_namespace,) if name is not None]
    for flag, name, form in (*given, ("--lease_name", options.lease_name, OBJECT_NAME)):
        try:
            form.verify(flag, name)
        except ValueError as error:
            raise InvalidConfigError(f"{error}.") from None
    lease_metadata(options)
    return msgspec.structs.replace(options, namespace=names)


class LeaseMetadata(Model, frozen=True, kw_only=True):
    """The user's own labels and annotations of the Lease."""

    rules = key_rules("labels", "annotations")

    labels: OwnLabels = msgspec.field(default_factory=dict)
    annotations: OwnAnnotations = msgspec.field(default_factory=dict)


def lease_metadata(options: Options) -> LeaseMetadata:
    """Parse the value of `--lease_metadata`. Raises InvalidConfigError."""
    try:
        return msgspec.json.decode(options.lease_metadata or "{}", type=LeaseMetadata)
    except msgspec.DecodeError as error:
        raise InvalidConfigError(f"--lease_metadata: {error}.") from None


def lease(options: Options, own: str | None) -> ObjectKey:
    """Return the Lease's key; `own` is the pod's namespace. Raises InvalidConfigError if no namespace is known."""
    found = options.lease_namespace or own or next(iter(options.namespace), None)
    if found is None:
        raise InvalidConfigError("--leader_elect with --all_namespaces needs --lease_namespace outside a cluster.")
    return ObjectKey(found, options.lease_name)
