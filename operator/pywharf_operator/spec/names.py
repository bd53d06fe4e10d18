"""The labels, annotations and the field manager by which the operator knows its own objects."""

from typing import Final, Literal, get_args

MANAGER: Final = "pywharf-operator"
"""The field manager of the operator's writes, and the value of MANAGED_BY_LABEL."""
MANAGED_BY_LABEL: Final = "app.kubernetes.io/managed-by"
SERVER_LABEL: Final = "pywharf.dev/server"
REPO_LABEL: Final = "pywharf.dev/repo"
COMPONENT_LABEL: Final = "app.kubernetes.io/component"
RENDERED_ANNOTATION: Final = "pywharf.dev/rendered"
"""Annotation of an object: the digest of what was rendered."""
CACHE_ANNOTATION: Final = "pywharf.dev/cache"
"""Annotation of the server's pods: the digest of the cache's configuration, which they read when they start."""

Component = Literal["server", "index"]
"""What a pod does: `server` serves, `index` updates a repo's index."""
COMPONENTS: Final[tuple[Component, ...]] = ("server", "index")

ConfigMapSuffix = Literal["config", "policies"]
"""The end of the name of a server's own ConfigMap, after its name and a `-`."""
CONFIG_SUFFIX: Final = "config"
POLICIES_SUFFIX: Final = "policies"
CONFIG_MAP_SUFFIXES: Final[tuple[ConfigMapSuffix, ...]] = get_args(ConfigMapSuffix)
