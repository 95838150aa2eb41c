"""The Data API of the local stack: who sees and does what through it, by which keys and tokens; what it leaves."""

import base64
import hashlib
import hmac
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import jwt
import psutil
import psycopg
import pytest
from deno import find_deno_bin
from supabase import ClientOptions, create_client

from cli.commands.dev import warn_of_the_data_api
from devstack.data_api import DataApi, api_keys, data_api_settings
from devstack.deno_process import STOP_SECONDS
from devstack.env_file import read_env_file
from devstack.processes import free_port
from devstack.scaffold import DefaultGrants
from devstack.stack import Stack
from devstack.tokens import SigningKeys
from tests.databases import Databases
from tests.support import Database, account_of, create_user

DEADLINE_SECONDS = 30
OTHER_ORIGIN = "https://app.example.com"
# Everything that decides who may do what, and what there is at all.
ACCESS = """
    select 'relation', oid::regclass::text, relkind::text, relowner::regrole::text, relacl::text,
           concat(relrowsecurity, relforcerowsecurity)
    from pg_class where relnamespace::regnamespace::text !~ '^pg_toast'
    union all
    select 'function', oid::regprocedure::text, prokind::text, proowner::regrole::text, proacl::text,
           concat(prosecdef, proconfig)
    from pg_proc
    union all
    select 'schema', nspname::text, '', nspowner::regrole::text, nspacl::text, '' from pg_namespace
    where nspname !~ '^pg_(toast_)?temp'
    union all
    select 'default', concat(defaclnamespace::regnamespace, defaclobjtype), '', defaclrole::regrole::text,
           defaclacl::text, ''
    from pg_default_acl
    union all
    select 'policy', polname::text, polrelid::regclass::text, polroles::regrole[]::text,
           pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)
    from pg_policy
    union all
    select 'member', member::regrole::text, roleid::regrole::text, grantor::regrole::text,
           concat(admin_option, inherit_option, set_option), ''
    from pg_auth_members
    order by 1, 2, 3, 4, 5, 6
"""


class Client:
    """Requests as clients send them: an API key, and the token of whoever is signed in."""

    def __init__(self, api: DataApi, keys: SigningKeys) -> None:
        self._keys = keys
        settings = api_keys(keys)
        self.publishable = settings["SUPABASE_PUBLISHABLE_KEY"]
        self.secret = settings["SUPABASE_SECRET_KEY"]
        self.http = httpx.Client(base_url=api.url, timeout=DEADLINE_SECONDS)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def __call__(
        self, method: str, path: str, *, token: str | None = None, key: str | None = None, **options: Any
    ) -> httpx.Response:
        headers = {"apikey": key or self.publishable} | options.pop("headers", {})
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return self.http.request(method, f"/rest/v1/{path}", headers=headers, **options)

    def token(self, user_id: UUID, **options: Any) -> str:
        return self._keys.access_token(user_id, "ada@example.com", **options)


@pytest.fixture(scope="module")
def database(databases: Databases, template: Callable[[DefaultGrants], str]) -> Iterator[Database]:
    with databases.copy(template("none")) as database:
        yield database


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> SigningKeys:
    return SigningKeys.load(tmp_path_factory.mktemp("keys"))


def environment(database: Database, keys: SigningKeys) -> dict[str, str]:
    return data_api_settings(database.server, keys, database.name)


@pytest.fixture(scope="module")
def api(database: Database, keys: SigningKeys, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DataApi]:
    with DataApi.start(tmp_path_factory.mktemp("log"), environment(database, keys)) as api:
        yield api


@pytest.fixture(scope="module")
def client(api: DataApi, keys: SigningKeys) -> Iterator[Client]:
    with Client(api, keys) as client:
        yield client


@pytest.fixture
def conn(database: Database) -> Iterator[psycopg.Connection[Any]]:
    with database.connect() as connection:
        yield connection


@pytest.fixture
def person(database: Database, conn: psycopg.Connection[Any]) -> Callable[[int], tuple[UUID, UUID]]:
    """Sign a user up and give them credits → (user, account)."""

    def make(credits: int) -> tuple[UUID, UUID]:
        user_id = create_user(database)
        account_id = account_of(conn, user_id)
        conn.execute("select billing.grant_credits(%s, %s, 'gift', 'A gift')", [account_id, credits])
        return user_id, account_id

    return make


def refused(response: httpx.Response) -> tuple[int, str]:
    body = response.json()
    assert set(body) == {"code", "details", "hint", "message"}, body
    return response.status_code, body["code"]


def exposed(conn: psycopg.Connection[Any]) -> list[str]:
    """Tables and views of `public`: all that the Data API can name."""
    rows = conn.execute(
        "select relname from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'v', 'm', 'p')"
    )
    return sorted(name for (name,) in rows)


def test_users_read_their_own_rows_and_no_others(
    client: Client, person: Callable[[int], tuple[UUID, UUID]]
) -> None:
    for (user_id, account_id), credits in ((person(500), 500), (person(70), 70)):
        token = client.token(user_id)
        balances = client("GET", "credit_balance?select=account_id,balance", token=token)
        assert balances.status_code == 200
        assert balances.json() == [{"account_id": str(account_id), "balance": credits}]
        history = client("GET", "credit_history?select=account_id,amount", token=token)
        assert history.json() == [{"account_id": str(account_id), "amount": credits}]
    assert client("GET", "credit_balance", token=client.token(uuid4())).json() == []
    assert len(client("GET", "credit_balance", key=client.secret).json()) >= 2


def test_visitors_see_plans_and_operations_and_nothing_else(
    client: Client, conn: psycopg.Connection[Any]
) -> None:
    conn.execute(
        """
        insert into billing.products (stripe_product_id, name, livemode, as_of) values ('prod_1', 'Pro', false, now());
        insert into billing.plans (stripe_price_id, stripe_product_id) values ('price_1', 'prod_1');
        select billing.set_operation_price(operation => 'chat', rates => '{"call": 1}');
        """
    )
    seen = {name: client("GET", f"{name}?select=*") for name in exposed(conn)}
    assert [plan["name"] for plan in seen.pop("billing_plans").json()] == ["Pro"]
    assert [each["operation"] for each in seen.pop("billing_operations").json()] == ["chat"]
    assert len(seen) >= 4
    assert {name: refused(response) for name, response in seen.items()} == dict.fromkeys(seen, (401, "42501"))


def test_nobody_writes_what_is_exposed(
    client: Client, conn: psycopg.Connection[Any], person: Callable[[int], tuple[UUID, UUID]]
) -> None:
    user_id, account_id = person(10)
    token = client.token(user_id)
    row, own = {"account_id": str(account_id)}, f"account_id=eq.{account_id}"
    for name in ("credit_balance", "credit_history"):
        for asker in ({"token": token}, {"key": client.secret}):
            assert refused(client("POST", name, json=row, **asker)) == (403, "42501")
            assert refused(client("PATCH", f"{name}?{own}", json=row, **asker)) == (403, "42501")
            assert refused(client("DELETE", f"{name}?{own}", **asker)) == (403, "42501")
        assert refused(client("POST", name, json=row)) == (401, "42501")


def test_an_object_is_passed_as_an_object(
    client: Client, person: Callable[[int], tuple[UUID, UUID]], conn: psycopg.Connection[Any]
) -> None:
    _, account_id = person(10)
    call = {
        "account_id": str(account_id),
        "amount": 5,
        "idempotency_key": "k",
        "metadata": {"job": {"id": 7}},
    }
    assert (
        client("POST", "rpc/spend_credits", json=call, key=client.secret).json()["metadata"]
        == call["metadata"]
    )
    stored = "select metadata -> 'job' ->> 'id' from billing.credit_entries where idempotency_key = 'k'"
    assert conn.execute(stored).fetchone() == ("7",)


def test_functions_of_the_server_are_refused_to_users(
    client: Client, person: Callable[[int], tuple[UUID, UUID]]
) -> None:
    user_id, account_id = person(10)
    call = {"account_id": str(account_id), "amount": 5, "idempotency_key": "k", "description": "d"}
    ensure = {"user_id": str(user_id)}
    for path, arguments in (("grant_credits", call), ("spend_credits", call), ("ensure_account", ensure)):
        answer = client("POST", f"rpc/{path}", json=arguments, token=client.token(user_id))
        assert refused(answer) == (403, "42501")
        assert refused(client("POST", f"rpc/{path}", json=arguments)) == (401, "42501")
    balance = client("GET", "credit_balance?select=balance", token=client.token(user_id)).json()
    assert balance == [{"balance": 10}]

    granted = client("POST", "rpc/grant_credits", json=call, key=client.secret)
    assert granted.status_code == 200
    assert granted.json()["balance_after"] == 15
    assert client("POST", "rpc/ensure_account", json=ensure, key=client.secret).json() == str(account_id)
    too_much = call | {"amount": 1000, "idempotency_key": "k2"}
    failed = client("POST", "rpc/spend_credits", json=too_much, key=client.secret)
    assert refused(failed) == (400, "TB001")
    assert failed.json()["hint"]


def test_private_schemas_cannot_be_named(client: Client) -> None:
    for schema in ("billing", "auth", "pgmq", "pg_catalog"):
        answer = client("GET", "accounts", key=client.secret, headers={"Accept-Profile": schema})
        assert refused(answer) == (406, "PGRST106")


def test_requests_leave_every_grant_and_object_as_it_was(
    databases: Databases, template: Callable[[DefaultGrants], str], keys: SigningKeys, tmp_path: Path
) -> None:
    # In a database of its own: the harm would be done by the first request.
    with databases.copy(template("none")) as database, database.connect(admin=True) as admin:
        user_id = create_user(database)
        before = admin.execute(ACCESS).fetchall()
        started = DataApi.start(tmp_path, environment(database, keys))
        with started as api, Client(api, keys) as client:
            for asker in ({}, {"token": client.token(user_id)}, {"key": client.secret}):
                client("GET", "billing_plans", **asker)
                client("PATCH", "credit_balance?balance=eq.0", json={"balance": 1}, **asker)
                client("POST", "rpc/ensure_account", json={"user_id": str(user_id)}, **asker)
                client("GET", "no_such_table", **asker)
                client("GET", "", **asker)
        assert admin.execute(ACCESS).fetchall() == before
        assert len(before) > 1000


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forged(token: str, header: Mapping[str, Any], sign: Callable[[bytes], bytes]) -> str:
    signed = f"{b64(json.dumps(header).encode())}.{token.split('.')[1]}"
    return f"{signed}.{b64(sign(signed.encode()))}"


def resigned(keys: SigningKeys, token: str, **changes: Any) -> str:
    """The same token with other claims, truly signed; a claim that is None is left out."""
    claims = jwt.decode(token, options={"verify_signature": False}) | changes
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, jwt.PyJWK(keys.jwk).key, algorithm="ES256", headers={"kid": keys.jwk["kid"]})


def unacceptable(keys: SigningKeys, other: SigningKeys, user_id: UUID) -> dict[str, tuple[str, int, str]]:
    token = keys.access_token(user_id, "ada@example.com")
    header, payload, signature = token.split(".")
    kid, now = keys.jwk["kid"], int(time.time())
    secrets = {
        "public key": keys.jwks(),
        "public point": keys.jwk["x"],
        "API key": api_keys(keys)["SUPABASE_PUBLISHABLE_KEY"],
    }
    private = jwt.PyJWK(keys.jwk)

    def truly(data: bytes) -> bytes:
        return private.Algorithm.sign(data, private.key)

    refusals = {
        "expired": (keys.access_token(user_id, "a@b.c", now=now - 3601), "PGRST303"),
        "without expiry": (resigned(keys, token, exp=None), "PGRST303"),
        "not valid yet": (resigned(keys, token, nbf=now + 60), "PGRST303"),
        "issued in the future": (resigned(keys, token, iat=now + 60), "PGRST303"),
        "another audience": (resigned(keys, token, aud="other"), "PGRST303"),
        "no audience": (resigned(keys, token, aud=None), "PGRST303"),
        "another issuer": (resigned(keys, token, iss="https://other.example.com/auth/v1"), "PGRST303"),
        "another key": (other.access_token(user_id, "a@b.c"), "PGRST301"),
        "another key under our id": (resigned(SigningKeys(other.jwk | {"kid": kid}), token), "PGRST301"),
        "claims changed": (f"{header}.{b64(json.dumps({'role': 'service_role'}).encode())}.{signature}", "PGRST301"),
        "alg none": (forged(token, {"alg": "none", "kid": kid}, lambda _: b""), "PGRST301"),
        "alg none, signed": (forged(token, {"alg": "none", "kid": kid}, lambda _: b"x" * 64), "PGRST301"),
        "another algorithm's name": (forged(token, {"alg": "HS256", "kid": kid}, truly), "PGRST301"),
        "critical extension": (forged(token, {"alg": "ES256", "kid": kid, "crit": ["x"]}, truly), "PGRST301"),
        "no key id": (forged(token, {"alg": "ES256"}, truly), "PGRST301"),
        "unknown key id": (forged(token, {"alg": "ES256", "kid": str(uuid4())}, truly), "PGRST301"),
        "no signature": (f"{header}.{payload}.", "PGRST301"),
        "two parts": (f"{header}.{payload}", "PGRST301"),
        "no token": ("nonsense", "PGRST301"),
        "no JSON": ("a.b.c", "PGRST301"),
    }  # fmt: skip
    for what, secret in secrets.items():
        sign = hmac.new(secret.encode(), None, hashlib.sha256)

        def mac(data: bytes, sign: "hmac.HMAC" = sign) -> bytes:
            copy = sign.copy()
            copy.update(data)
            return copy.digest()

        refusals[f"HS256 with the {what}"] = (forged(token, {"alg": "HS256", "kid": kid}, mac), "PGRST301")
    answers = {what: (token, 401, code) for what, (token, code) in refusals.items()}
    # Truly signed, but no role that the Data API may take: the login behind it could.
    for role in ("postgres", "supabase_admin", "billing_worker", 'anon"; reset role; --'):
        answers[f"role {role}"] = (resigned(keys, token, role=role), 403, "42501")
    return answers


def test_tokens_that_are_not_ours_or_not_valid_are_refused_as_postgrest_does(
    client: Client, keys: SigningKeys, tmp_path: Path, person: Callable[[int], tuple[UUID, UUID]]
) -> None:
    user_id, _ = person(10)
    cases = unacceptable(keys, SigningKeys.load(tmp_path), user_id)
    # On what visitors may read: a token that is refused must not count as none.
    answers = {what: client("GET", "billing_plans", token=token) for what, (token, _, _) in cases.items()}
    assert {what: refused(answer) for what, answer in answers.items()} == {
        what: (status, code) for what, (_, status, code) in cases.items()
    }
    assert answers["expired"].json()["message"] == "JWT expired"
    assert answers["two parts"].json()["message"] == "Expected 3 parts in JWT; got 2"
    assert answers["another audience"].json()["message"] == "JWT not in audience"
    assert 'error="invalid_token"' in answers["expired"].headers["WWW-Authenticate"]
    assert client("GET", "billing_plans", token=resigned(keys, client.token(user_id))).status_code == 200


def test_an_api_key_is_needed_and_only_ours_lets_in(
    client: Client, keys: SigningKeys, tmp_path: Path
) -> None:
    without = client.http.get("/rest/v1/billing_plans")
    assert (without.status_code, without.json()["message"]) == (401, "No API key found in request")
    user = client.http.get(
        "/rest/v1/billing_plans", headers={"Authorization": f"Bearer {client.token(uuid4())}"}
    )
    assert (user.status_code, user.json()["message"]) == (401, "No API key found in request")
    for key in (*api_keys(SigningKeys.load(tmp_path)).values(), "sb_secret_", keys.jwk["d"], "null"):
        answer = client("GET", "billing_plans", key=key)
        assert (answer.status_code, answer.json()["message"]) == (401, "Invalid API key")
    # A key where a token belongs is none: it is what clients without a session send.
    assert client("GET", "billing_plans", token=client.publishable).status_code == 200
    assert refused(client("GET", "billing_plans", token=client.secret)) == (401, "PGRST301")
    assert client.http.get("/rest/v1/billing_plans", params={"apikey": client.publishable}).status_code == 200


def test_the_database_sees_the_tokens_claims_and_what_was_migrated_since(
    client: Client, conn: psycopg.Connection[Any]
) -> None:
    user_id = uuid4()
    token = client.token(user_id)
    assert refused(client("POST", "rpc/who_am_i", json={}, token=token)) == (404, "PGRST202")
    conn.execute(
        """
        create function public.who_am_i() returns jsonb language sql stable as $$
            select jsonb_build_object('role', current_user, 'uid', auth.uid(), 'claims', auth.jwt())
        $$;
        create table public.migrated as select timestamptz '2026-11-22 12:00:00.5+00' as since;
        grant select on public.migrated to anon
        """
    )
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
        assert client("POST", "rpc/who_am_i", json={}, token=token).json() == {
            "role": "authenticated", "uid": str(user_id), "claims": claims,
        }  # fmt: skip
        anon = client("POST", "rpc/who_am_i", json={}).json()
        assert anon == {"role": "anon", "uid": None, "claims": {"role": "anon"}}
        service = client("POST", "rpc/who_am_i", json={}, key=client.secret).json()
        assert service == {"role": "service_role", "uid": None, "claims": {"role": "service_role"}}
        # A user's token counts for more than the key of the server that passes it on.
        both = client("POST", "rpc/who_am_i", json={}, key=client.secret, token=token).json()
        assert (both["role"], both["uid"]) == ("authenticated", str(user_id))
        assert client("GET", "migrated").json() == [{"since": "2026-11-22T12:00:00.5+00:00"}]
    finally:
        conn.execute("drop function public.who_am_i(); drop table public.migrated")


def test_browsers_of_other_origins_may_ask(client: Client) -> None:
    wanted = "apikey,authorization,content-type,x-client-info"
    asked = client.http.options(
        "/rest/v1/credit_balance",
        headers={
            "Origin": OTHER_ORIGIN,
            "Access-Control-Request-Method": "PATCH",
            "Access-Control-Request-Headers": wanted,
        },
    )
    assert asked.status_code == 204
    assert asked.headers["Access-Control-Allow-Origin"] == "*"
    assert "PATCH" in asked.headers["Access-Control-Allow-Methods"]
    assert asked.headers["Access-Control-Allow-Headers"] == wanted
    for answer in (
        client("GET", "billing_plans", headers={"Origin": OTHER_ORIGIN}),
        client("GET", "billing_plans", headers={"Origin": OTHER_ORIGIN}, token="x"),
    ):
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert "Content-Range" in answer.headers["Access-Control-Expose-Headers"]


def test_it_listens_on_this_machine_only(api: DataApi) -> None:
    listening = [c.laddr for c in psutil.Process(api.pid).net_connections("inet") if c.status == "LISTEN"]
    assert [tuple(address) for address in listening] == [("127.0.0.1", api.port)]


def test_it_stops_without_leaving_a_process(database: Database, keys: SigningKeys, tmp_path: Path) -> None:
    with DataApi.start(tmp_path, environment(database, keys)) as api:
        assert api.trouble(DEADLINE_SECONDS) is None
        with Client(api, keys) as client:
            assert client("GET", "billing_plans").status_code == 200
        process = psutil.Process(api.pid)
        processes = [process, *process.children(recursive=True)]
        started = time.monotonic()
    assert time.monotonic() - started < STOP_SECONDS  # or it was killed
    assert not any(process.is_running() for process in processes)
    assert api.trouble(1) == f"the Data API has ended (log: {api.log_path})"


def test_it_ends_with_whoever_started_it(database: Database, keys: SigningKeys, tmp_path: Path) -> None:
    code = (
        "import json, sys, time; from pathlib import Path; from devstack.data_api import DataApi\n"
        "print(DataApi.start(Path(sys.argv[1]), json.loads(sys.argv[2])).pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path), json.dumps(environment(database, keys))],
        stdout=subprocess.PIPE,
    )
    assert parent.stdout
    with parent, parent.stdout:
        child = psutil.Process(int(parent.stdout.readline()))
        parent.send_signal(signal.SIGKILL)
    child.wait(DEADLINE_SECONDS)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with tempfile.TemporaryDirectory(prefix="tillbase-api-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)  # as root, Postgres runs as another user and must get through
        with Stack.start(Path(name), durable=False) as stack:
            yield stack


@pytest.fixture
def signed_in(stack: Stack) -> tuple[str, str]:
    """(access token, user id), as `till token` gives it."""
    token = subprocess.run(
        [sys.executable, "-c", "from cli.main import main; main()", "token", "--user", f"{uuid4().hex}@example.com"],
        env=os.environ | stack.settings, capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    return token, jwt.decode(token, options={"verify_signature": False})["sub"]


def test_supabase_js_works_unchanged(stack: Stack, signed_in: tuple[str, str]) -> None:
    names = ("SUPABASE_URL", "SUPABASE_PUBLISHABLE_KEY", "SUPABASE_SECRET_KEY")
    env_file = read_env_file(Path(stack.settings["TILL_STATE"]) / "env")
    script = Path(__file__).with_name("data_api_client.ts")
    run = subprocess.run(
        [
            find_deno_bin(), "run", "--quiet", "--no-prompt", "--no-config", "--no-lock", "--node-modules-dir=none",
            "--allow-net=127.0.0.1", "--allow-env", str(script), *(env_file[name] for name in names), *signed_in,
        ],
        env={"DENO_TLS_CA_STORE": "system,mozilla"} | os.environ, capture_output=True, text=True, check=False,
        timeout=120,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    answers = json.loads(run.stdout)
    account = answers["balances"]["data"]["account_id"]
    assert answers["balances"]["data"]["balance"] == 0
    assert answers["visitorsPlans"]["data"] == []
    assert answers["serversGrant"]["data"]["amount"] == 5
    assert answers["history"]["data"] == [{"amount": 5, "description": "A gift"}]
    assert answers["count"]["count"] == 1
    assert answers["serversAccount"]["data"] == account
    assert {what: (answers[what]["status"], answers[what]["error"]["code"])
            for what in ("visitorsBalances", "usersUpdate", "usersGrant")} == {
        "visitorsBalances": (401, "42501"), "usersUpdate": (403, "42501"), "usersGrant": (403, "42501"),
    }  # fmt: skip
    assert answers["functionsAnswer"]["status"] == 400
    assert answers["functionsAnswer"]["body"] == httpx.post(stack.settings["WEBHOOK_URL"], json={}).json()


@pytest.mark.filterwarnings("ignore:The '.*' parameter is deprecated")  # supabase-py's own use of its parts
def test_supabase_py_works_unchanged(stack: Stack, signed_in: tuple[str, str]) -> None:
    token, user_id = signed_in
    url = stack.settings["SUPABASE_URL"]
    # With clients that can be closed: its own cannot.
    with httpx.Client() as first, httpx.Client() as second:
        server = create_client(url, stack.settings["SUPABASE_SECRET_KEY"], ClientOptions(httpx_client=first))
        user = create_client(
            url, stack.settings["SUPABASE_PUBLISHABLE_KEY"], ClientOptions(httpx_client=second)
        )
        user.postgrest.auth(token)
        account = server.rpc("ensure_account", {"user_id": user_id}).execute().data
        grant = {"account_id": account, "amount": 7, "idempotency_key": "py", "description": "A gift"}
        assert server.rpc("grant_credits", grant).execute().data["balance_after"] == 7
        balance = user.table("credit_balance").select("account_id, balance").execute().data
        assert balance == [{"account_id": account, "balance": 7}]


def test_the_published_keys_are_where_supabase_has_them(stack: Stack) -> None:
    answer = httpx.get(f"{stack.settings['SUPABASE_URL']}/auth/v1/.well-known/jwks.json")
    assert answer.json() == json.loads(stack.settings["SUPABASE_JWKS"])


def test_while_packages_are_downloaded_it_listens_and_requests_wait(
    database: Database, keys: SigningKeys, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        offline = {
            "DENO_DIR": str(tmp_path / "deno"),
            "NPM_CONFIG_REGISTRY": f"http://127.0.0.1:{silent.getsockname()[1]}/",
        }
        with DataApi.start(tmp_path, environment(database, keys) | offline) as api:
            assert api.trouble(0.5) == (
                "the Data API is still downloading its npm packages; requests wait until it is ready"
            )
            key = {"apikey": api_keys(keys)["SUPABASE_PUBLISHABLE_KEY"]}
            with pytest.raises(httpx.ReadTimeout):
                httpx.get(f"{api.url}/rest/v1/billing_plans", headers=key, timeout=0.5)


def test_without_a_network_at_the_first_start_everything_else_works(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = DataApi.start
    offline = {"DENO_DIR": str(tmp_path), "NPM_CONFIG_REGISTRY": f"http://127.0.0.1:{free_port()}/"}

    def start_offline(log_directory: Path, environment: Mapping[str, str], **options: Any) -> DataApi:
        return start(log_directory, {**environment, **offline}, **options)

    monkeypatch.setattr(DataApi, "start", start_offline)
    with tempfile.TemporaryDirectory(prefix="tillbase-api-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)
        with Stack.start(Path(name), durable=False) as stack:
            warn_of_the_data_api(stack)
            said = capsys.readouterr().err
            assert said.count("\n") == 1
            assert said.startswith("warning: the Data API did not start: its npm packages cannot be loaded")
            settings = stack.settings
            key = {"apikey": settings["SUPABASE_PUBLISHABLE_KEY"]}
            assert refused(httpx.get(f"{settings['SUPABASE_URL']}/rest/v1/billing_plans", headers=key)) == (
                503,
                "PGRST000",
            )
            for url in (settings["WEBHOOK_URL"], f"{settings['SUPABASE_URL']}/functions/v1/stripe-webhook"):
                assert httpx.get(url).status_code == 405
            assert httpx.get(settings["WORKER_METRICS_URL"]).status_code == 200
            assert stack.first_dead() is None
