"""Lock files: which releases and files they pin. Each format is a module; what all share is in `pins`."""

from pywharf_operator.local.policy.lock_files.pins import Lock, LockedFile, Pin
from pywharf_operator.local.policy.lock_files.reading import read_lock

__all__ = ["Lock", "LockedFile", "Pin", "read_lock"]
