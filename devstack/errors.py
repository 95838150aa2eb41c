"""Errors of the local stack → one line that says what to do next."""

from worker.errors import BillingError


class LocalStackError(BillingError):
    """A part of the local stack cannot run; the message is one line and says what to do."""


class MigrationError(LocalStackError):
    """A migration cannot be applied; the message names the file, the line if known, and the cause."""
