"""Files that nobody else on this machine may read: logs, evidence, what opens the dashboard."""

import os


def private(path: str, flags: int) -> int:
    """An opener for `open()`; a file that is there already becomes private as well."""
    descriptor = os.open(path, flags, 0o600)
    os.fchmod(descriptor, 0o600)
    return descriptor
