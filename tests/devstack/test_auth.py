"""Signing in on the local stack: what supabase-js and supabase-py ask of /auth/v1, and what is refused how."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import jwt
import psycopg
import pytest
from deno import find_deno_bin
from supabase import Client, ClientOptions, create_client
from supabase_auth.errors import AuthApiError, AuthWeakPasswordError

from devstack.data_api import DataApi, api_keys, data_api_settings
from devstack.scaffold import DefaultGrants
from devstack.tokens import ISSUER, SigningKeys
from tests.databases import Databases
from tests.support import Database, create_user

DEADLINE_SECONDS = 30
PASSWORD = "correct horse"
pytestmark = pytest.mark.filterwarnings(
    "ignore:The '.*' parameter is deprecated"
)  # supabase-py's own use of its parts


@pytest.fixture(scope="module")
def database(databases: Databases, template: Callable[[DefaultGrants], str]) -> Iterator[Database]:
    with databases.copy(template("none")) as database:
        yield database


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> SigningKeys:
    return SigningKeys.load(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def api(database: Database, keys: SigningKeys, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DataApi]:
    settings = data_api_settings(database.server, keys, database.name)
    with DataApi.start(tmp_path_factory.mktemp("log"), settings) as api:
        yield api


@pytest.fixture(scope="module")
def http(api: DataApi, keys: SigningKeys) -> Iterator[httpx.Client]:
    headers = {"apikey": api_keys(keys)["SUPABASE_PUBLISHABLE_KEY"], "X-Supabase-Api-Version": "2024-01-01"}
    with httpx.Client(base_url=f"{api.url}/auth/v1", headers=headers, timeout=DEADLINE_SECONDS) as http:
        yield http


@pytest.fixture
def app(api: DataApi, keys: SigningKeys) -> Iterator[Client]:
    """A browser of its own: supabase-py remembers who is signed in."""
    with httpx.Client() as http:
        options = ClientOptions(httpx_client=http, auto_refresh_token=False)
        yield create_client(api.url, api_keys(keys)["SUPABASE_PUBLISHABLE_KEY"], options)


@pytest.fixture
def conn(database: Database) -> Iterator[psycopg.Connection[Any]]:
    with database.connect(admin=True) as connection:
        yield connection


def address() -> str:
    return f"{uuid4().hex}@example.com"


def refused(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def signed_up(http: httpx.Client, email: str) -> dict[str, Any]:
    answer = http.post("/signup", json={"email": email, "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    return answer.json()


def renewed(http: httpx.Client, token: str) -> httpx.Response:
    return http.post("/token?grant_type=refresh_token", json={"refresh_token": token})


def test_supabase_py_signs_up_in_and_out(app: Client, conn: psycopg.Connection[Any]) -> None:
    email = address()
    up = app.auth.sign_up(
        {"email": email.upper(), "password": PASSWORD, "options": {"data": {"name": "Ada"}}}
    )
    assert up.session
    assert up.user
    assert (up.user.email, up.user.user_metadata, up.user.is_anonymous) == (email, {"name": "Ada"}, False)
    # Signed in at once, with the account that the sign-up made.
    assert app.table("credit_balance").select("balance").execute().data == [{"balance": 0}]
    app.auth.sign_out()
    back = app.auth.sign_in_with_password({"email": email, "password": PASSWORD})
    assert back.user
    assert back.user.id == up.user.id
    asked = app.auth.get_user()
    assert asked
    assert asked.user.email == email
    stored = conn.execute("select encrypted_password from auth.users where email = %s", [email]).fetchone()
    assert stored
    assert stored[0].startswith("$2")
    assert PASSWORD not in stored[0]
    old = app.auth.get_session()
    assert old
    new = app.auth.refresh_session().session
    assert new
    assert new.refresh_token != old.refresh_token
    claims = app.auth.get_claims()
    assert claims
    assert claims["claims"]["sub"] == up.user.id


def test_supabase_js_signs_up_in_and_out(api: DataApi, keys: SigningKeys) -> None:
    script = Path(__file__).with_name("auth_client.ts")
    key = api_keys(keys)["SUPABASE_PUBLISHABLE_KEY"]
    run = subprocess.run(
        [
            find_deno_bin(), "run", "--quiet", "--no-prompt", "--no-config", "--no-lock", "--node-modules-dir=none",
            "--allow-net=127.0.0.1", "--allow-env", str(script), api.url, key, address(),
        ],
        env={"DENO_TLS_CA_STORE": "system,mozilla"} | os.environ, capture_output=True, text=True, check=False,
        timeout=120,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == {
        "weak": {"name": "AuthWeakPasswordError", "code": "weak_password", "reasons": ["length"]},
        "signedUp": True,
        "again": {"status": 422, "code": "user_already_exists"},
        "balance": [{"balance": 0}],
        "wrong": {"status": 400, "code": "invalid_credentials"},
        "sameUser": True,
        "claims": "authenticated",
        "refreshed": True,
        "sessionAfter": None,
        "endedToken": "AuthSessionMissingError",
        "channel": "CHANNEL_ERROR",
    }


def test_an_access_token_says_what_the_auth_servers_says(http: httpx.Client, keys: SigningKeys) -> None:
    email = address()
    session = signed_up(http, email)
    token = session["access_token"]
    ours = jwt.decode(
        token, jwt.PyJWK(keys.jwk), algorithms=["ES256"], audience="authenticated", issuer=ISSUER
    )
    example = jwt.decode(keys.access_token(uuid4(), email), options={"verify_signature": False})
    assert ours.keys() == example.keys()
    assert (ours["role"], ours["email"], ours["sub"]) == ("authenticated", email, session["user"]["id"])
    assert jwt.get_unverified_header(token) == {"alg": "ES256", "kid": keys.jwk["kid"], "typ": "JWT"}
    assert session["expires_at"] == ours["exp"]
    assert session["expires_in"] == ours["exp"] - ours["iat"] == 3600


def test_what_will_not_do_is_refused_in_the_auth_servers_words(http: httpx.Client) -> None:
    email = address()
    signed_up(http, email)
    up, into = "/signup", "/token?grant_type=password"
    cases: list[tuple[str, dict[str, Any], int, str]] = [
        (up, {"email": email, "password": PASSWORD}, 422, "user_already_exists"),
        (up, {"email": email.upper(), "password": PASSWORD}, 422, "user_already_exists"),
        (up, {"email": address(), "password": "short"}, 422, "weak_password"),
        (up, {"email": address(), "password": "é" * 37}, 400, "validation_failed"),
        (up, {"email": address()}, 400, "validation_failed"),
        (up, {"email": "nobody", "password": PASSWORD}, 400, "validation_failed"),
        (up, {"email": f"{'x' * 260}@example.com", "password": PASSWORD}, 400, "validation_failed"),
        (up, {"email": f"\0{address()}", "password": PASSWORD}, 400, "validation_failed"),
        (up, {"email": address(), "password": PASSWORD, "data": {"name": "\0"}}, 400, "bad_json"),
        (up, {"email": address(), "password": PASSWORD, "data": "Ada"}, 400, "bad_json"),
        (up, {"phone": "+4912345", "password": PASSWORD}, 400, "phone_provider_disabled"),
        (up, {}, 422, "anonymous_provider_disabled"),
        (into, {"email": email, "password": "wrong horse"}, 400, "invalid_credentials"),
        (into, {"email": email}, 400, "invalid_credentials"),
        (into, {"email": address(), "password": PASSWORD}, 400, "invalid_credentials"),
        ("/token?grant_type=pkce", {}, 400, "invalid_credentials"),
        ("/token?grant_type=refresh_token", {"refresh_token": "made up"}, 400, "refresh_token_not_found"),
        ("/token?grant_type=refresh_token", {"refresh_token": "\0"}, 400, "refresh_token_not_found"),
        ("/otp", {"email": email}, 404, "not_found"),
    ]
    answers = [refused(http.post(path, json=body)) for path, body, _, _ in cases]
    assert answers == [(status, code) for _, _, status, code in cases]
    assert refused(http.post("/signup", content="[1]")) == (400, "bad_json")
    # Clients from before the codes were words.
    older = http.post(
        into, json={"email": email, "password": "x"}, headers={"X-Supabase-Api-Version": ""}
    ).json()
    assert older == {"code": 400, "error_code": "invalid_credentials", "msg": "Invalid login credentials"}


def test_supabase_py_knows_the_refusals(app: Client) -> None:
    with pytest.raises(AuthWeakPasswordError) as weak:
        app.auth.sign_up({"email": address(), "password": "short"})
    assert weak.value.reasons == ["length"]
    with pytest.raises(AuthApiError) as wrong:
        app.auth.sign_in_with_password({"email": address(), "password": PASSWORD})
    assert (wrong.value.code, wrong.value.message) == ("invalid_credentials", "Invalid login credentials")


def test_an_api_key_is_needed(api: DataApi, http: httpx.Client) -> None:
    body = {"email": address(), "password": PASSWORD}
    for key in ({}, {"apikey": "sb_publishable_other"}):
        assert httpx.post(f"{api.url}/auth/v1/signup", json=body, headers=key).status_code == 401
    preflight = http.options("/signup", headers={"Access-Control-Request-Headers": "apikey"})
    assert preflight.headers["Access-Control-Allow-Headers"] == "apikey"
    answer = http.post("/signup", json=body | {"password": ""})
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "X-Supabase-Api-Version" in answer.headers["Access-Control-Expose-Headers"]


def test_two_sign_ups_at_once_make_one_user(http: httpx.Client) -> None:
    email = address()
    with ThreadPoolExecutor(8) as pool:
        body = {"email": email, "password": PASSWORD}
        answers = list(pool.map(lambda _: http.post("/signup", json=body).status_code, range(8)))
    assert sorted(answers) == [200, *[422] * 7]


def test_a_refresh_token_is_good_once_and_a_stolen_one_ends_the_session(
    http: httpx.Client, conn: psycopg.Connection[Any]
) -> None:
    first = signed_up(http, address())["refresh_token"]
    second = renewed(http, first).json()["refresh_token"]
    assert second != first
    # Two tabs that ask at the same time are no thieves: both go on with the same.
    assert renewed(http, first).json()["refresh_token"] == second
    conn.execute(
        "update auth.refresh_tokens set updated_at = updated_at - interval '11 seconds' where token = %s",
        [first],
    )
    assert refused(renewed(http, first)) == (400, "refresh_token_already_used")
    assert refused(renewed(http, second)) == (400, "refresh_token_already_used")


def test_parallel_refreshes_agree(http: httpx.Client) -> None:
    token = signed_up(http, address())["refresh_token"]
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda _: renewed(http, token).json(), range(8))
        found = {answer["refresh_token"] for answer in answers}
    assert len(found) == 1


def test_signing_out_ends_the_sessions_it_says(http: httpx.Client) -> None:
    email = address()
    sessions = [signed_up(http, email)]
    for _ in range(2):
        body = {"email": email, "password": PASSWORD}
        sessions.append(http.post("/token?grant_type=password", json=body).json())

    def alive() -> list[bool]:
        return [http.get("/user", headers=bearer(s["access_token"])).status_code == 200 for s in sessions]

    def leave(number: int, scope: str) -> int:
        path = f"/logout?scope={scope}"
        return http.post(path, headers=bearer(sessions[number]["access_token"])).status_code

    assert alive() == [True, True, True]
    assert leave(0, "everything") == 400
    assert leave(0, "local") == 204
    assert alive() == [False, True, True]
    assert refused(http.get("/user", headers=bearer(sessions[0]["access_token"]))) == (
        403,
        "session_not_found",
    )
    assert refused(renewed(http, sessions[0]["refresh_token"])) == (400, "refresh_token_not_found")
    assert leave(1, "others") == 204
    assert alive() == [False, True, False]
    assert leave(1, "global") == 204
    assert alive() == [False, False, False]


def test_a_token_of_till_token_is_honoured_and_its_user_has_no_password(
    http: httpx.Client, database: Database, keys: SigningKeys
) -> None:
    email = address()
    user_id = create_user(database, email)
    token = keys.access_token(user_id, email)
    shown = http.get("/user", headers=bearer(token)).json()
    assert (shown["id"], shown["email"], shown["role"]) == (str(user_id), email, "authenticated")
    for password in ("", PASSWORD):
        answer = http.post("/token?grant_type=password", json={"email": email, "password": password})
        assert refused(answer) == (400, "invalid_credentials")


def test_tokens_that_say_nothing_of_a_user_are_refused(
    http: httpx.Client, database: Database, keys: SigningKeys, tmp_path: Path
) -> None:
    user_id = create_user(database)
    stranger = SigningKeys.load(tmp_path).access_token(user_id, "a@b.c")
    cases = {
        "none": ({}, 401, "no_authorization"),
        "a key": (bearer(api_keys(keys)["SUPABASE_PUBLISHABLE_KEY"]), 403, "bad_jwt"),
        "another's": (bearer(stranger), 403, "bad_jwt"),
        "expired": (bearer(keys.access_token(user_id, "a@b.c", now=time.time() - 4000)), 403, "bad_jwt"),
        "of nobody": (bearer(keys.access_token(uuid4(), "a@b.c")), 403, "user_not_found"),
    }
    for path in ("/user", "/logout"):
        method = "GET" if path == "/user" else "POST"
        answers = {what: refused(http.request(method, path, headers=h)) for what, (h, _, _) in cases.items()}
        assert answers == {what: (status, code) for what, (_, status, code) in cases.items()}


def test_a_banned_user_gets_in_by_no_way(http: httpx.Client, conn: psycopg.Connection[Any]) -> None:
    email = address()
    session = signed_up(http, email)
    conn.execute(
        "update auth.users set banned_until = now() + interval '1 day' where id = %s",
        [UUID(session["user"]["id"])],
    )
    body = {"email": email, "password": PASSWORD}
    assert refused(http.post("/token?grant_type=password", json=body)) == (400, "user_banned")
    assert refused(renewed(http, session["refresh_token"])) == (400, "user_banned")
    assert refused(http.get("/user", headers=bearer(session["access_token"]))) == (403, "user_banned")


def test_a_sign_up_is_that_of_the_auth_servers_role(
    http: httpx.Client, conn: psycopg.Connection[Any]
) -> None:
    conn.execute(
        """
        create table public.signed_up_by (role text);
        grant insert on public.signed_up_by to supabase_auth_admin;
        create function public.note_role() returns trigger language plpgsql as
            $$ begin insert into public.signed_up_by values (current_user); return new; end $$;
        create trigger note_role after insert on auth.users for each row execute function public.note_role()
        """
    )
    try:
        signed_up(http, address())
        assert conn.execute("select role from public.signed_up_by").fetchall() == [("supabase_auth_admin",)]
    finally:
        conn.execute(
            "drop trigger note_role on auth.users; drop function public.note_role; drop table public.signed_up_by"
        )
