"""A one-time token → the cookie of one browser; what its forms carry; what it is told on its next page."""

import secrets
from dataclasses import dataclass, field
from hmac import compare_digest
from typing import Literal

TOKEN_BYTES = 32


@dataclass(frozen=True, slots=True)
class Told:
    """A line that the next page begins with."""

    mood: Literal["good", "bad"]
    text: str


def new_token() -> str:
    """A token that nobody guesses."""
    return secrets.token_urlsafe(TOKEN_BYTES)


@dataclass
class Session:
    """The one browser that this dashboard serves; it lives as long as the process.

    `csrf` is what the forms of its pages carry: a cookie alone proves nothing, browsers send it with others' forms too.
    """

    token: str = field(default_factory=new_token, repr=False)
    csrf: str = field(default_factory=new_token, repr=False)
    _cookie: str | None = field(default=None, repr=False)
    _told: list[Told] = field(default_factory=list[Told])

    def open(self, token: str) -> str | None:
        """The cookie's value for the first who brings the token; None for everybody else."""
        if self._cookie is not None or not _same(token, self.token):
            return None
        self._cookie = new_token()
        return self._cookie

    def knows(self, cookie: str | None) -> bool:
        """Whether it is the cookie of the browser that brought the token."""
        return self._cookie is not None and cookie is not None and _same(cookie, self._cookie)

    def vouches_for(self, csrf: str | None) -> bool:
        """Whether a form was made by a page of ours."""
        return csrf is not None and _same(csrf, self.csrf)

    def tell(self, told: Told) -> None:
        """Have the next page begin with it."""
        self._told.append(told)

    def take_told(self) -> list[Told]:
        """What is to be told, once."""
        told, self._told = self._told, []
        return told


def _same(given: str, ours: str) -> bool:
    return compare_digest(given.encode(), ours.encode())
