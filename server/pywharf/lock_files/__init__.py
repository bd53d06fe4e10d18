"""Lock files: which releases and files they pin. Each format is a module; what all share is in `pins`."""

from pywharf.lock_files.pins import Lock, LockedFile, Note, Pin
from pywharf.lock_files.reading import read_lock

__all__ = ["Lock", "LockedFile", "Note", "Pin", "read_lock"]
