"""Manifests that a test gives as text."""

import functools

from pywharf_operator.local.manifests import Manifests, parse_file


@functools.lru_cache(maxsize=1000)
def parsed(text: str, namespace: str = "default") -> Manifests:
    """Parse the text as one file of a folder; objects that name no namespace get `namespace`.

    A text is parsed once, because YAML takes most of the time of the tests that begin with it.
    """
    return parse_file("a.yaml", text.encode(), namespace)
