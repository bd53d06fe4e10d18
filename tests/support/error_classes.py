"""Every class of the server's error tree, whichever module defines it."""

import importlib
import pkgutil
from collections.abc import Iterator

import pywharf
from pywharf.core.errors import PywharfError


def error_classes() -> Iterator[type[PywharfError]]:
    """Import all modules of the server, and yield the classes."""
    for module in pkgutil.walk_packages(pywharf.__path__, "pywharf."):
        importlib.import_module(module.name)
    pending = [PywharfError]
    while pending:
        found = pending.pop()
        yield found
        pending.extend(found.__subclasses__())
