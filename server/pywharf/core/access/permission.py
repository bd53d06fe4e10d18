"""The permissions on a repo."""

import enum


class Permission(enum.IntEnum):
    """A client's permission on a repo. Each level includes the ones below it."""

    NONE = 0
    READ = 1
    WRITE = 2
