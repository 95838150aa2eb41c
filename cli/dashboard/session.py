"""A one-time token → the cookie of one browser, the token of its forms, and messages for its next page."""

import secrets
from dataclasses import dataclass, field
from hmac import compare_digest
from typing import Literal

TOKEN_BYTES = 32


@dataclass(frozen=True, slots=True)
class Flash:
    """A message at the top of the next page."""

    mood: Literal["good", "bad"]
    text: str


def new_token() -> str:
    """A token that cannot be guessed."""
    return secrets.token_urlsafe(TOKEN_BYTES)


@dataclass
class Session:
    """The one browser that this dashboard serves; it lives as long as the process.

    `csrf` is the token in the forms of its pages: the cookie alone proves nothing, because browsers send it with
    other sites' forms too.
    """

    token: str = field(default_factory=new_token, repr=False)
    csrf: str = field(default_factory=new_token, repr=False)
    _cookie: str | None = field(default=None, repr=False)
    _flashes: list[Flash] = field(default_factory=list[Flash])

    def open(self, token: str) -> str | None:
        """The cookie's value for the first browser that brings the token; None for all others."""
        if self._cookie is not None or not _same(token, self.token):
            return None
        self._cookie = new_token()
        return self._cookie

    def knows(self, cookie: str | None) -> bool:
        """Whether it is the cookie of the browser that brought the token."""
        return self._cookie is not None and cookie is not None and _same(cookie, self._cookie)

    def vouches_for(self, csrf: str | None) -> bool:
        """Whether a page of ours made the form."""
        return csrf is not None and _same(csrf, self.csrf)

    def flash(self, message: Flash) -> None:
        """Show a message on the next page."""
        self._flashes.append(message)

    def take_flashes(self) -> list[Flash]:
        """The messages, once."""
        flashes, self._flashes = self._flashes, []
        return flashes


def _same(given: str, ours: str) -> bool:
    return compare_digest(given.encode(), ours.encode())
