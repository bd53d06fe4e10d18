"""Manifests that a test gives as text."""

import functools
import itertools

from pywharf_operator.local.manifests import Manifests, parse_file


@functools.lru_cache(maxsize=1000)
def parsed(text: str, namespace: str = "default") -> Manifests:
    """Parse the text as one file of a folder; objects that name no namespace get `namespace`.

    A text is parsed once, because YAML takes most of the time of the tests that begin with it.
    """
    return parse_file("a.yaml", text.encode(), namespace)


def parsed_each(*texts: str, namespace: str = "default") -> Manifests:
    """Parse each text as one file. Prefer this where tests share most of their manifests."""
    found = [parsed(text, namespace) for text in texts]
    return Manifests(
        loaded=tuple(itertools.chain.from_iterable(one.loaded for one in found)),
        problems=tuple(itertools.chain.from_iterable(one.problems for one in found)),
        notes=tuple(itertools.chain.from_iterable(one.notes for one in found)),
    )
