"""The backend that keeps packages in a folder."""

from pywharf.backends.file_system.backend import BACKEND

__all__ = ["BACKEND"]
