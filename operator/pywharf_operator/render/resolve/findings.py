"""The findings about a resource: each is the status, reason and message of one condition."""

from collections.abc import Iterable
from typing import Final

import msgspec

ACCEPTED: Final = "Accepted"
SECRETS_RESOLVED: Final = "SecretsResolved"


class Finding(msgspec.Struct, frozen=True):
    """A condition without its times."""

    status: bool | None
    """None: unknown."""
    reason: str
    """A machine-readable word, one of REASONS."""
    message: str
    """One or more sentences for people: what is wrong and what to do. It never contains a secret."""


def refused(reason: str, message: str) -> Finding:
    """Return the finding that refuses a repo or a server."""
    return Finding(status=False, reason=reason, message=message)


REASONS: Final[dict[str, dict[str, str]]] = {
    "PackageRepo Accepted": {
        "Accepted": "The server takes the repo.",
        "InvalidSpec": "Correct the field that the message names; the CustomResourceDefinition may be an old one.",
        "ServerUnreadable": "Let the operator's ServiceAccount read the server's namespace again.",
        "ServerNotFound": "Create the PackageServer, or correct `spec.serverRef`.",
        "NamespaceNotAllowed": (
            "Let the server's `spec.allowedNamespaces` admit the namespace, or use another server. "
            "A repo is told the same where there is no such server in that namespace."
        ),
        "NameConflict": "An older PackageRepo has the name on this server: make a new one with another `repoName`.",
        "StorageTaken": (
            "Choose another bucket or prefix, or name keys of your own: an older repo of another namespace is there "
            "with the server's cloud identity, or the server's cache."
        ),
        "StorageMissing": "Give the PackageServer a `spec.storage`, or the repo another backend.",
        "CacheMissing": "Give the PackageServer a `spec.cache`, or the repo another `upstream.mode`.",
        "BackendNotInstalled": "Use an image with that backend, or another backend.",
        "EndpointNotAllowed": "Add the host to the server's `spec.allowedEndpoints`, or use an allowed one.",
        "InvalidBackend": "Correct what the message names; the installed backend refuses it.",
        "ScheduleTooFrequent": "Choose a rarer `index.schedule`, or lower `limits.minScheduleIntervalSeconds`.",
        "TableTooLarge": (
            "Shorten the lists of `spec.upstream` and `spec.access`, or raise the server's `limits.repoTableBytes`."
        ),
        "TooManyRepos": "Delete repos, use another PackageServer, or raise its `limits.reposPerNamespace`.",
        "ServerFull": "Its namespace takes the most room: delete or shorten repos, or use another PackageServer.",
    },
    "PackageRepo SecretsResolved": {
        "Resolved": "Every Secret that the repo names is there.",
        "NoCredentials": (
            "Add the reference that the message names under `spec.credentials`, or an entry to `spec.access`."
        ),
        "AmbientIdentityNotAllowed": (
            "Name the storage's keys by `credentials.backendSecretRef`, or have the server's "
            "`spec.ambientIdentity.namespaces` list the repo's namespace."
        ),
        "SecretNotFound": "Create the Secret in the repo's own namespace, with the label; no other namespace is read.",
        "SecretNotLabelled": 'Label the Secret with `pywharf.dev/credentials: "true"`.',
        "SecretKeyMissing": "Add the key to the Secret, or correct the reference.",
        "SecretInvalid": (
            "Give the key a value that is a text, not empty and at most 16 KiB; a bucket's keys need the fields that "
            "the message names, and what is sent to a source is one line, its user name without a colon."
        ),
    },
    "PackageRepo AccessResolved": {
        "Resolved": "Every entry of `spec.access` has an effect.",
        "IssuerUnknown": "Have the issuer added to the server's `identity.issuers`, or correct the entry.",
        "IssuerInvalid": "Have the issuer corrected that the server's condition IdentityReady names.",
        "IssuerIsCluster": "Have the entries that the message names name `serviceAccounts` in place of the issuer.",
        "AudienceOfApiServer": (
            "Have another `spec.identity.audience` chosen for the server; the API server takes this one as its own."
        ),
        "ServiceAccountsOff": "Have the server's `identity.serviceAccounts` set to Offline, or take the entry out.",
        "ClusterKeysForbidden": "See the condition IdentityReady of the PackageServer.",
        "ClusterKeysUnreadable": "See the condition IdentityReady of the PackageServer.",
        "NoCluster": "Nothing: `pywharf up` has no cluster, so no ServiceAccount can prove itself to it.",
        "ProxyHeadersOff": (
            "Have the server's `identity.proxyHeaders` set to true and the proxy listed in `identity.trustedProxies`, "
            "or take the entry out."
        ),
        "ProxyInvalid": "Have the proxies corrected that the server's condition IdentityReady names.",
        "EntryExpired": "Take out the entries that the message names, or give them a new `expires`.",
        "EntryEndsSoon": "Give the entries that the message names a new `expires`, or let them end.",
        "DigestRepeated": "Name a token's digest in one entry, or remember to take it out of each.",
    },
    "PackageRepo CredentialsStrong": {
        "SecretSameForBoth": "Give the write secret another value: whoever reads may publish.",
        "SecretShort": "Give the secret 32 random characters, for example by `openssl rand -hex 16`.",
        "SecretEasy": "Give the secret 32 random characters, for example by `openssl rand -hex 16`.",
        "SecretShared": "Give each repo a secret of its own.",
    },
    "PackageRepo Programmed": {
        "Programmed": "Every ready replica serves the repo as it is described now.",
        "Waiting": "Nothing: a moment passes until each replica has it. The message says how many have.",
        "NoReadyReplica": "Look at the conditions of the PackageServer, and at its pods.",
        "ReplicasUnreachable": (
            "Let the operator reach the replicas' port 9090: NetworkPolicies must allow it, and a service mesh with "
            "strict mTLS must leave it out."
        ),
        "ImageTooOld": (
            "Set `spec.image` of the PackageServer to a newer image: with the one that it names the replicas refuse "
            "each configuration with policies or access entries, and serve the one before."
        ),
        "ConfigRefused": (
            "Set `spec.image` of the PackageServer to a newer image, if the one that it names is older than the "
            "operator; otherwise correct what the message says. The replicas serve the configuration before."
        ),
        "DataOwnedByOther": (
            "The folder holds another PackageRepo's packages: give it back its name, or let an admin clear the owner."
        ),
        "PreconditionsIgnored": (
            "Use another store, or a newer version of it: with this one replicas could overwrite each other's files."
        ),
        "BrokenOnReplica": "Correct what the message says; the replica cannot open the repo's storage.",
        "ConfigNotRendered": "See the condition ConfigRendered of the PackageServer.",
        "NotServed": "See Accepted and SecretsResolved.",
    },
    "PackageRepo IndexUpToDate": {
        "Updated": "The last update succeeded; `status.index` says what it found.",
        "Pending": "Nothing: the first update has not finished yet.",
        "WaitingForSlot": "Nothing: the update starts when others have ended; they are shared between namespaces.",
        "WaitingForJob": "Nothing: the update starts when the one that runs has ended.",
        "Suspended": "Nothing, or set `spec.index.suspend` to false: no update was ever run.",
        "UpdateFailed": "Correct what the message says. The index before it is still served.",
        "UpdateStuck": "Correct what the message says: the Job has no pod, or its pod cannot start.",
        "SidecarRunning": (
            "The index is updated, and another container keeps the Job's pod: keep sidecars out of the Jobs' pods by "
            "annotations or labels of the PackageServer's `spec.jobs`, or inject them as native sidecars."
        ),
        "NotServed": "See Accepted and SecretsResolved; while a repo is not served its index is not updated.",
    },
    "PackageRepo ClientConfigured": {
        "Written": "The ConfigMap is there and holds what pods need.",
        "ObjectNotOwned": (
            "Delete or rename the ConfigMap that the message names, or give `spec.clientConfig.configMap` another name."
        ),
        "AuthorityInvalid": (
            "The ConfigMap is written without `ca.crt`: let the server's TLS Secret hold PEM certificates there."
        ),
        "ApplyRefused": "Correct what the API server says of the ConfigMap in the message.",
        "Contested": "Let nobody else write the ConfigMap that the message names.",
        "NotServed": "See Accepted and SecretsResolved; until the repo is served the ConfigMap stays as it is.",
    },
    "PackageRepo UpstreamReachable": {
        "Reachable": "None of the indexes that the repo depends on has failed for long.",
        "UpstreamAway": (
            "See that the indexes that the message names are up, that the server's pods reach their hosts, and that "
            "their credentials are valid. What the cache holds is served meanwhile."
        ),
        "NoReadyReplica": "Look at the conditions of the PackageServer, and at its pods.",
    },
    "PackageRepo Ready": {
        "Ready": "Clients can use the repo: Accepted, SecretsResolved and Programmed are True.",
    },
    "PackagePolicy Accepted": {
        "Accepted": "The policy is taken. The message says so where a part of it has no effect.",
        "InvalidSpec": (
            "Correct the field that the message names: an operator is stricter than the schema, for example about "
            "version specifiers. The version before stays in force."
        ),
        "TargetNotFound": (
            "Create the PackageServer or PackageRepo in the policy's own namespace, or correct `spec.targetRefs`. The "
            "other targets have the policy."
        ),
        "TooManyRules": (
            "Use names and beginnings such as `acme-*`, or take out rules: a server takes 10,000 of all its "
            "policies, and a pattern with another * counts as 10. The version before stays in force where it fits."
        ),
        "TooManyPolicies": (
            "Write one policy of several: a server takes 256. The version before stays in force where it fits."
        ),
        "PolicyTooLarge": (
            "Shorten reasons, or take out rules: the policies of a server share one ConfigMap. The version before "
            "stays in force where it fits."
        ),
    },
    "PackagePolicy Programmed": {
        "Programmed": "Every ready replica applies the policy as it is described now.",
        "Waiting": "Nothing: a moment passes until each replica has it. The message says how many have.",
        "NoReadyReplica": "Look at the conditions of the PackageServer, and at its pods.",
        "ReplicasUnreachable": (
            "Let the operator reach the replicas' port 9090: NetworkPolicies must allow it, and a service mesh with "
            "strict mTLS must leave it out."
        ),
        "ImageTooOld": (
            "Set `spec.image` of the PackageServer to a newer image: the one that it names knows no policies, or no "
            "access entries of repos, and refuses the whole configuration."
        ),
        "ConfigRefused": (
            "Set `spec.image` of the PackageServer to a newer image, if the one that it names is older than the "
            "operator; otherwise correct what the message says. The policies before stay in force."
        ),
        "ConfigNotRendered": "See the conditions of the PackageServer.",
        "NotDelivered": "See Accepted.",
        "AdvisoriesMissing": (
            "Set `spec.advisories` of the PackageServer that the message names, or `advisories.mode: Report`: without "
            "a feed nobody knows what is malware, so the policy's repos answer 503."
        ),
    },
    "PackagePolicy Ready": {
        "Ready": "The policy is in force: Accepted and Programmed are True.",
    },
    "PackageServer Accepted": {
        "Accepted": "The server can run as it is described.",
        "InvalidSpec": "Correct the field that the message names; the CustomResourceDefinition may be an old one.",
        "InvalidPodTemplate": "Correct what the message names of `spec.podTemplate` or `spec.podTemplateRemovals`.",
        "StorageNotShared": "Run one replica, or use volumes with the access mode ReadWriteMany, or buckets.",
        "CacheVolumeTooSmall": "Make `spec.cache.fileSystem.size` larger, or `spec.cache.maxBytes` smaller.",
        "NamespacesNotWatched": "Let the operator watch all namespaces, or use another `allowedNamespaces.from`.",
    },
    "PackageServer NamespacesRead": {
        "Read": "Every namespace that may have repos of the server could be read.",
        "NamespaceUnreadable": (
            "Give the operator's ServiceAccount its Role again in the namespace that the message names, or leave the "
            "namespace out of those that the operator watches. Until then what is served of its repos stays as it is."
        ),
        "PoliciesUnreadable": (
            "Give the operator's ServiceAccount the rules for PackagePolicies that the chart's Role has (your own Role "
            "may be older), and apply the chart's CRDs. Until then no policy comes into force, and none ends."
        ),
    },
    "PackageServer IdentityReady": {
        "Ready": "The server has what it verifies identities by.",
        "ClusterKeysForbidden": (
            "Bind the ClusterRole `system:service-account-issuer-discovery` to the operator's ServiceAccount again, as "
            "Kubernetes does by default; or set `spec.identity.serviceAccounts` to Off. Keys that were read before "
            "stay in use."
        ),
        "ClusterKeysUnreadable": (
            "See what the message says of the API server's answer. Keys that were read before stay in use."
        ),
        "AudienceOfApiServer": "Choose another `spec.identity.audience`; the API server takes this one as its own.",
        "TokenReviewForbidden": (
            "Give the ServiceAccount that the message names the right to create tokenreviews.authentication.k8s.io, as "
            "the chart does with `rbac.create`; or set `spec.identity.serviceAccounts` to Offline."
        ),
        "IssuerIsCluster": "Take the issuer out, and have access entries name `serviceAccounts`.",
        "IssuerInvalid": (
            "Correct the issuer that the message names: its URL, its keys, or the URL that another one has, too. Until "
            "then it is left out, and everything else is as it should be."
        ),
        "ProxyInvalid": (
            "Correct the network of `spec.identity.trustedProxies` that the message names. Until then it is left out, "
            "and everything else is as it should be."
        ),
    },
    "PackageServer ConfigRendered": {
        "Rendered": "The configuration fits into its objects.",
        "ObjectNotOwned": "Delete or rename the object that the message names, or give the PackageServer another name.",
        "ReposRefused": "It is rendered without the newest repos of the namespaces that the message names.",
        "KeptPoliciesUnknown": (
            "Correct the policies whose condition Accepted is False, give the operator its rights again, or restore "
            "the ConfigMap that the message names: until the operator knows which policies are in force it applies "
            "nothing, and the server runs on as it is."
        ),
        "ConfigTooLarge": "Shorten `spec.upstream` of the PackageServer. Until then the last configuration stays.",
    },
    "PackageServer Ready": {
        "Ready": "Everything is there, and at least one replica is ready.",
        "NoReadyReplica": "Look at the Deployment of the server's name, and at its pods.",
        "PodRefused": "Do what the message says: a quota, a LimitRange or a policy admits no pod of the server.",
        "ReplicasUnreachable": (
            "Let the operator reach the replicas' port 9090: NetworkPolicies must allow it, and a service mesh with "
            "strict mTLS must leave it out."
        ),
        "ObjectNotOwned": "Delete or rename the object that the message names, or give the PackageServer another name.",
        "ApplyRefused": "Correct what the API server says of the object in the message.",
        "Contested": "Let only one manager write the field that the message names.",
        "ApiMissing": "Install what the message names, or leave the field out.",
    },
}
"""Every reason, by resource and condition, with what to do."""


def unreadable_advice(names: Iterable[str]) -> str:
    """Return what is wrong with unreadable namespaces, and what to do."""
    listed = sorted(names)
    one = len(listed) == 1
    return (
        f"The namespace{'' if one else 's'} {', '.join(listed)} cannot be read (HTTP 403): what is served of "
        f"{'its' if one else 'their'} repos stays as it is, and no change of them is seen. Give the operator's "
        f"ServiceAccount its Role there again; or where {'it is' if one else 'they are'} gone or not to be served, "
        f"leave {'it' if one else 'them'} out of the operator's namespaces (the chart's watch.namespaces, --namespace)."
    )


def unlisted_advice(names: Iterable[str]) -> str:
    """Return what is wrong where policies cannot be listed, and what to do. No name: of all namespaces."""
    listed = ", ".join(sorted(names))
    return (
        f"The PackagePolicies of {listed or 'all namespaces'} cannot be read: those in force stay as they are, and no "
        "other one comes into force. Give the operator's ServiceAccount the right to list, watch and patch them (the "
        "rules of the chart's Role), and apply the chart's CRDs."
    )
