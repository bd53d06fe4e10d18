"""Manifests that a test gives as text."""

from pywharf_operator.local.manifests import Manifests, parse_file


def parsed(text: str, namespace: str = "default") -> Manifests:
    """Parse the text as one file of a folder; objects that name no namespace get `namespace`."""
    return parse_file("a.yaml", text.encode(), namespace)
