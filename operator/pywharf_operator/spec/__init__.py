"""PURE. What users write as strict frozen structs, and the status of PackageRepo, PackageServer and PackagePolicy."""

from pywharf_operator.spec.conditions import Condition
from pywharf_operator.spec.metadata import API_VERSION, GROUP, VERSION, ObjectKey, ObjectMeta, Resource
from pywharf_operator.spec.namespace import NamespaceObject
from pywharf_operator.spec.package_policy import PACKAGE_POLICY, PackagePolicy, PackagePolicySpec
from pywharf_operator.spec.package_repo import PACKAGE_REPO, PackageRepo, PackageRepoSpec, SecretKeyRef
from pywharf_operator.spec.package_server import PACKAGE_SERVER, PackageServer, PackageServerSpec
from pywharf_operator.spec.secret import CREDENTIALS_LABEL, Secret

__all__ = [
    "API_VERSION",
    "CREDENTIALS_LABEL",
    "GROUP",
    "PACKAGE_POLICY",
    "PACKAGE_REPO",
    "PACKAGE_SERVER",
    "VERSION",
    "Condition",
    "NamespaceObject",
    "ObjectKey",
    "ObjectMeta",
    "PackagePolicy",
    "PackagePolicySpec",
    "PackageRepo",
    "PackageRepoSpec",
    "PackageServer",
    "PackageServerSpec",
    "Resource",
    "Secret",
    "SecretKeyRef",
]
