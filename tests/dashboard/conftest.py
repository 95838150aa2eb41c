"""The dashboard over a real database: a browser that has opened it, and one that has not."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest
from httpx import Response

from cli.dashboard.serve import listen, server
from cli.dashboard.session import Session
from tests.support import Database, account_of, create_user

ACTOR = "grace"


class Browser:
    """A browser at the dashboard; it follows no redirect by itself, and knows the forms of our pages."""

    def __init__(self, client: httpx.Client, session: Session) -> None:
        self.client = client
        self.session = session
        self.origin = str(client.base_url).rstrip("/")
        self.port = client.base_url.port

    def enter(self) -> "Browser":
        assert self.client.get("/", params={"token": self.session.token}).status_code == 303
        return self

    def get(self, path: str, **options: Any) -> Response:
        return self.client.get(path, **options)

    def see(self, path: str) -> str:
        """The text of a page that must be there, without its markup."""
        answer = self.get(path)
        assert answer.status_code == 200, text_of(answer)
        return text_of(answer)

    def post(
        self, path: str, *, origin: str | None = "ours", csrf: str | None = None, **fields: str
    ) -> Response:
        """A form of ours, unless told otherwise."""
        form = fields | {"csrf": self.session.csrf if csrf is None else csrf}
        headers = {} if origin is None else {"origin": self.origin if origin == "ours" else origin}
        return self.client.post(path, data=form, headers=headers)

    def act(self, path: str, back: str = "/fraud", **fields: str) -> str:
        """Send a form, and go where it leads: what that page says first."""
        answer = self.post(path, back=back, **fields)
        assert answer.status_code == 303, text_of(answer)
        assert answer.headers["location"] == back
        told = re.search(r'<p class="flash (?:good|bad)"[^>]*>(.*?)</p>', self.get(back).text, re.DOTALL)
        assert told
        return unescape(told[1])


def text_of(answer: Response) -> str:
    """What a person reads."""
    without = re.sub(r"<(style|script)\b.*?</\1>|<[^>]*>", " ", answer.text, flags=re.DOTALL)
    return " ".join(unescape(without).split())


@contextmanager
def served(url: str) -> Iterator[Browser]:
    """The dashboard of a database, on a port of its own, and a browser that nobody has given the token."""
    session = Session()
    listener = listen(0)
    serving = server(listener, session, postgres_url=url, actor=ACTOR)
    thread = threading.Thread(target=serving.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with httpx.Client(base_url=origin, timeout=30, verify=False) as client:  # no TLS: nothing to verify
            yield Browser(client, session)
    finally:
        serving.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture
def stranger(database: Database) -> Iterator[Browser]:
    """A browser that nobody has given the token."""
    with served(database.url) as browser:
        yield browser


@pytest.fixture
def browser(stranger: Browser) -> Browser:
    """The browser that has opened the dashboard."""
    return stranger.enter()


@pytest.fixture
def app(database: Database) -> Iterator[psycopg.Connection[Any]]:
    """The app's own server: `service_role`."""
    with database.connect("service_role") as connection:
        yield connection


@pytest.fixture
def worker(database: Database) -> Iterator[psycopg.Connection[Any]]:
    """The worker: `billing_worker`."""
    with database.connect("billing_worker") as connection:
        yield connection


@pytest.fixture
def account(database: Database, conn: psycopg.Connection[Any]) -> UUID:
    """The account of ada@example.com."""
    return account_of(conn, create_user(database, "ada@example.com"))


@pytest.fixture
def admin(database: Database) -> Iterator[psycopg.Connection[Any]]:
    """A superuser, who fills tables without asking."""
    with database.connect(admin=True) as connection:
        yield connection
