"""What is found about a resource: the status, reason and message of one condition."""

from typing import Final

import msgspec

ACCEPTED: Final = "Accepted"
SECRETS_RESOLVED: Final = "SecretsResolved"


class Finding(msgspec.Struct, frozen=True):
    """One condition without its times."""

    status: bool | None
    """None: not known."""
    reason: str
    """A word for programs, one of REASONS."""
    message: str
    """One or more sentences for people: what is wrong and what to do. Never a secret."""


REASONS: Final[dict[str, dict[str, str]]] = {
    "PackageRepo Accepted": {
        "Accepted": "The server takes the repo.",
        "InvalidSpec": "Correct the field that the message names; the CustomResourceDefinition may be an old one.",
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
    "PackageRepo Programmed": {
        "Programmed": "Every ready replica serves the repo as it is described now.",
        "Waiting": "Nothing: a moment passes until each replica has it. The message says how many have.",
        "NoReadyReplica": "Look at the conditions of the PackageServer, and at its pods.",
        "DataOwnedByOther": (
            "The folder holds another PackageRepo's packages: give it back its name, or let an admin clear the owner."
        ),
        "BrokenOnReplica": "Correct what the message says; the replica cannot open the repo's storage.",
        "ConfigNotRendered": "See the condition ConfigRendered of the PackageServer.",
        "NotServed": "See Accepted and SecretsResolved.",
    },
    "PackageRepo IndexUpToDate": {
        "Updated": "The last update succeeded; `status.index` says what it found.",
        "Pending": "Nothing: the first update has not finished yet.",
        "Suspended": "Nothing, or set `spec.index.suspend` to false: no update was ever run.",
        "UpdateFailed": "Correct what the message says. The index before it is still served.",
        "UpdateStuck": "Correct what the message says: the Job's pod cannot start.",
        "NotServed": "See Accepted and SecretsResolved; while a repo is not served its index is not updated.",
    },
    "PackageRepo Ready": {
        "Ready": "Clients can use the repo: Accepted, SecretsResolved and Programmed are True.",
    },
    "PackageServer Accepted": {
        "Accepted": "The server can run as it is described.",
        "InvalidSpec": "Correct the field that the message names; the CustomResourceDefinition may be an old one.",
        "InvalidPodTemplate": "Correct what the message names of `spec.podTemplate` or `spec.podTemplateRemovals`.",
        "StorageNotShared": "Run one replica, or use storage with the access mode ReadWriteMany.",
        "NamespacesNotWatched": "Let the operator watch all namespaces, or use another `allowedNamespaces.from`.",
    },
    "PackageServer ConfigRendered": {
        "Rendered": "The configuration fits into its objects.",
        "ObjectNotOwned": "Delete or rename the object that the message names, or give the PackageServer another name.",
        "ConfigTooLarge": "Move repos to another PackageServer. Until then the last configuration stays.",
    },
    "PackageServer Ready": {
        "Ready": "Everything is there, and at least one replica is ready.",
        "NoReadyReplica": "Look at the Deployment of the server's name, and at its pods.",
        "ObjectNotOwned": "Delete or rename the object that the message names, or give the PackageServer another name.",
        "ApplyRefused": "Correct what the API server says of the object in the message.",
        "Contested": "Let only one manager write the field that the message names.",
        "ApiMissing": "Install what the message names, or leave the field out.",
    },
}
"""Every reason by resource and condition, with what to do."""
