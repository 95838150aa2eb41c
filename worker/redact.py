"""A log line → the same line without addresses and keys. Errors of mail servers, Stripe and Postgres can quote them."""

import re
from typing import Any

# User and password of a connection string, whatever its host and however wild the password.
_LOGIN = re.compile(r"(?<=://)[^\s\"'@]*:[^\s\"']*(?=@)")
_ADDRESS = re.compile(r"[^\s\"'<>(),;=\\]+@[\w-]+(?:\.[\w-]+)+")
_KEY = re.compile(r"\b(?:[sr]k_(?:test|live)_|whsec_|sb_secret_)\w+|\beyJ[\w-]+\.[\w-]+\.[\w-]+")


def redacted(text: str) -> str:
    """The text with `[address]` and `[secret]` in their places."""
    return _KEY.sub("[secret]", _ADDRESS.sub("[address]", _LOGIN.sub("[secret]", text)))


def redact(_logger: Any, _method: str, line: str) -> str:
    """The last processor of structlog: it gets the rendered line."""
    return redacted(line)
