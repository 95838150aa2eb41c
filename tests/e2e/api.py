"""The Data API and the sign-in of a running stack, as an app's server and its users call them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx


class Refused(Exception):
    """The API's error: code, details, hint and message as PostgREST sends them."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(f"{status} {body}")
        self.status, self.code, self.details = status, body.get("code"), body.get("details")


@dataclass(frozen=True)
class Api:
    """A client with a key, or with a user's token."""

    http: httpx.Client
    headers: dict[str, str]

    def rpc(self, function: str, **given: Any) -> Any:
        return self._answer(self.http.post(f"/rest/v1/rpc/{function}", json=given, headers=self.headers))

    def read(self, view: str, **filters: str) -> list[dict[str, Any]]:
        return self._answer(self.http.get(f"/rest/v1/{view}", params=filters, headers=self.headers))

    @staticmethod
    def _answer(response: httpx.Response) -> Any:
        if response.status_code >= 400:
            raise Refused(response.status_code, response.json())
        return response.json() if response.content else None


@dataclass(frozen=True)
class User:
    id: str
    api: Api

    @property
    def account_id(self) -> str:
        [account] = self.api.read("billing_account", kind="eq.personal")
        return account["account_id"]


@dataclass(frozen=True)
class App:
    """`server` has the secret key."""

    http: httpx.Client
    settings: dict[str, str]

    @property
    def server(self) -> Api:
        return self._with(self.settings["SUPABASE_SECRET_KEY"])

    def sign_up(self, email: str | None = None) -> User:
        body = {"email": email or f"{uuid4().hex}@example.com", "password": "correct horse"}
        key = self.settings["SUPABASE_PUBLISHABLE_KEY"]
        signed_up = self.http.post("/auth/v1/signup", json=body, headers={"apikey": key})
        session = signed_up.raise_for_status().json()
        return User(session["user"]["id"], self._with(key, session["access_token"]))

    def _with(self, key: str, token: str | None = None) -> Api:
        return Api(self.http, {"apikey": key, "Authorization": f"Bearer {token or key}"})


@contextmanager
def opened(settings: dict[str, str]) -> Iterator[App]:
    limits = httpx.Limits(max_connections=64)
    with httpx.Client(base_url=settings["SUPABASE_URL"], timeout=60, limits=limits) as http:
        yield App(http, settings)
