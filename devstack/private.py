"""Files that only the owner may read: logs, evidence, the dashboard's address."""

import os


def private(path: str, flags: int) -> int:
    """An opener for `open()`; an existing file becomes private as well."""
    descriptor = os.open(path, flags, 0o600)
    os.fchmod(descriptor, 0o600)
    return descriptor
