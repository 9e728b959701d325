"""The account that PostgreSQL runs under when Trireme runs as root, which PostgreSQL itself refuses to."""

from __future__ import annotations

import os
import pwd
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

from trireme.errors import UnsupportedError

# Accounts that a system already has; none is added to it.
ACCOUNTS = ("postgres", "nobody")

ACL_ATTRIBUTE = "system.posix_acl_access"
ACL_VERSION = struct.pack("<I", 2)
ACL_ENTRY = struct.Struct("<HHI")
NO_ID = 0xFFFFFFFF
USER_OBJ, USER, GROUP_OBJ, MASK, OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
SEARCH = 1


@dataclass(frozen=True, slots=True)
class Account:
    """A system account by its numbers."""

    name: str
    uid: int
    gid: int


def unprivileged_account() -> Account | None:
    """The account to switch to, None when this process is not root. UnsupportedError if there is none."""
    if os.geteuid() != 0:
        return None
    for name in ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise UnsupportedError(
        f"PostgreSQL does not run as root and there is no account {' or '.join(ACCOUNTS)} to run it: "
        "start as another user, or set TRIREME_DATABASE_URL"
    )


def let_through(path: Path, account: Account) -> None:
    """Let `account` pass through `path` and its parents, by an access list entry of its own on closed ones.

    Nobody else gains anything, and it may not list those folders. Raises UnsupportedError naming the folder.
    """
    for folder in (path, *path.parents):
        found = folder.stat()
        if found.st_mode & stat.S_IXOTH or (found.st_uid == account.uid and found.st_mode & stat.S_IXUSR):
            continue
        try:
            _allow_search(folder, account.uid, found.st_mode)
        except (OSError, AttributeError):
            raise UnsupportedError(
                f"PostgreSQL runs as {account.name} here, which cannot enter {folder}: "
                f"run chmod o+x {folder}, or start as another user, or set TRIREME_DATABASE_URL"
            ) from None


def _allow_search(folder: Path, uid: int, mode: int) -> None:
    """Add search permission for `uid` to the POSIX access list (Linux; format: posix_acl_xattr.h)."""
    entries = {
        (USER_OBJ, NO_ID): mode >> 6 & 7,
        (GROUP_OBJ, NO_ID): mode >> 3 & 7,
        (OTHER, NO_ID): mode & 7,
    }
    if ACL_ATTRIBUTE in os.listxattr(folder):
        raw = os.getxattr(folder, ACL_ATTRIBUTE)[len(ACL_VERSION) :]
        entries = {(tag, id_): bits for tag, bits, id_ in ACL_ENTRY.iter_unpack(raw)}
    if entries.get((USER, uid), 0) & entries.get((MASK, NO_ID), 7) & SEARCH:
        return
    mask = entries.get((MASK, NO_ID), entries[(GROUP_OBJ, NO_ID)])
    entries[(USER, uid)] = entries.get((USER, uid), 0) | SEARCH
    entries[(MASK, NO_ID)] = mask | SEARCH
    packed = (ACL_ENTRY.pack(tag, bits, id_) for (tag, id_), bits in sorted(entries.items()))
    os.setxattr(folder, ACL_ATTRIBUTE, ACL_VERSION + b"".join(packed))
