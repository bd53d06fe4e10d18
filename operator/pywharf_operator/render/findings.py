"""What is found about a resource: the status, reason and message of one condition."""

from typing import Final

import msgspec

ACCEPTED: Final = "Accepted"
SECRETS_RESOLVED: Final = "SecretsResolved"


class Finding(msgspec.Struct, frozen=True):
    """One condition without its times."""

    status: bool
    reason: str
    """A word for programs, one of REASONS."""
    message: str
    """One or more sentences for people: what is wrong and what to do. Never a secret."""


REASONS: Final[dict[str, dict[str, str]]] = {
    "PackageRepo Accepted": {
        "Accepted": "The server takes the repo.",
        "ServerNotFound": "Create the PackageServer, or correct `spec.serverRef`.",
        "NamespaceNotAllowed": "Let the server's `spec.allowedNamespaces` admit the namespace, or use another server.",
        "NameConflict": "An older PackageRepo has the name on this server: make a new one with another `repoName`.",
        "StorageMissing": "Give the PackageServer a `spec.storage`, or the repo another backend.",
        "BackendNotInstalled": "Use an image with that backend, or another backend.",
        "EndpointNotAllowed": "Add the host to the server's `spec.allowedEndpoints`, or use an allowed one.",
        "InvalidBackend": "Correct what the message names; the installed backend refuses it.",
    },
    "PackageRepo SecretsResolved": {
        "Resolved": "Every Secret that the repo names is there.",
        "NoCredentials": "Add the reference that the message names under `spec.credentials`.",
        "SecretNotFound": "Create the Secret in the repo's own namespace; no other is looked at.",
        "SecretNotLabelled": 'Label the Secret with `pywharf.dev/credentials: "true"`.',
        "SecretKeyMissing": "Add the key to the Secret, or correct the reference.",
        "SecretInvalid": "Give the key a value that is a text, not empty and at most 16 KiB.",
    },
    "PackageServer Accepted": {
        "Accepted": "The server can run as it is described.",
        "InvalidPodTemplate": "Correct the field of `spec.podTemplate` that the message names.",
        "StorageNotShared": "Run one replica, or use storage with the access mode ReadWriteMany.",
        "NamespacesNotWatched": "Let the operator watch all namespaces, or use another `allowedNamespaces.from`.",
    },
    "PackageServer ConfigRendered": {
        "Rendered": "The configuration fits into its objects.",
        "ConfigTooLarge": "Move repos to another PackageServer. Until then the last configuration stays.",
    },
    "PackageServer Ready": {
        "ApiMissing": "Install what the message names, or leave the field out.",
    },
}
"""Every reason by resource and condition, with what to do."""
