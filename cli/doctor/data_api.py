"""SUPABASE_URL and the publishable key → what an app's client reads, and what it must not."""

import json
from collections.abc import Iterator
from typing import Any, LiteralString, cast
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import ProxyHandler, Request, build_opener

from cli.database import Connection, rows
from cli.doctor.rights import shipped_rights
from cli.findings import Finding, Severity

TIMEOUT_SECONDS = 10
_LOCAL = ("127.0.0.1", "localhost", "::1")


def visitor(url: str, key: str) -> Iterator[Finding]:
    """As a visitor, who may read plans and nothing else."""
    status, body = _read(url, key, "billing_plans?select=stripe_price_id&limit=1")
    if status != 200:
        yield Finding(
            "data_api", f"a visitor cannot read public.billing_plans ({_reason(status, body)})",
            "check SUPABASE_URL and SUPABASE_PUBLISHABLE_KEY; expose schema public in the Data API's settings",
        )  # fmt: skip
        return
    for view in ("credit_balance", "credit_history", "billing_account", "billing_subscription"):
        status, body = _read(url, key, f"{view}?limit=1")
        if status == 200:
            yield Finding(
                "data_api", f"a visitor may read public.{view}",
                f"anon must not read it: the release's migration has the grants of public.{view}",
            )  # fmt: skip
    status, body = _read(url, key, "accounts?limit=1", schema="billing")
    if status != 406:
        yield Finding(
            "data_api", "schema billing is exposed in the Data API", "take billing out of the exposed schemas"
        )


# Schemas that a client must not reach; each of them is there in a hosted project.
_HIDDEN = {
    "billing": "error",
    "pgmq": "error",
    "pgmq_public": "warning",
    "auth": "error",
    "vault": "error",
    "cron": "error",
}
_VALUES = {"uuid": "00000000-0000-0000-0000-000000000000", "boolean": "true", "jsonb": "{}", "json": "{}"}
_TEXTS = ("text", "character varying")
_RPC: LiteralString = """
    select proname as name, array_to_json(proargnames[1:pronargs]) as names,
        array(select format_type(type, null) from unnest(proargtypes::oid[]) as argument (type)) as types,
        format('%%I.%%I(%%s)', nspname, proname, pg_catalog.oidvectortypes(proargtypes)) as signature
    from pg_catalog.pg_proc join pg_catalog.pg_namespace on pg_namespace.oid = pronamespace
    where nspname = 'public' and prokind = 'f' and pronargs > 0 order by 1, 3
"""


def outsider(conn: Connection, url: str, key: str, token: str | None) -> Iterator[Finding]:
    """As a visitor, and as the user of an access token: they must reach only the schemas for clients, and call only the
    functions that are granted to them. GET requests, which the Data API answers in read-only transactions."""
    for schema, severity in _HIDDEN.items():
        status, body = _read(url, key, "accounts?limit=1", schema=schema)
        if status == 0:
            yield Finding(
                "data_api", f"the Data API does not answer ({_reason(status, body)})",
                "check SUPABASE_URL and SUPABASE_PUBLISHABLE_KEY",
            )  # fmt: skip
            return
        if status != 406:
            yield Finding(
                "exposed_schema", f"schema {schema} is exposed in the Data API",
                f"take {schema} out of the exposed schemas in the Data API's settings", cast("Severity", severity),
            )  # fmt: skip
    shipped = shipped_rights()
    for role, bearer in (("anon", key), ("authenticated", token)):
        for each in rows(conn, _RPC, {}) if bearer else ():
            allowed = shipped.get(f"function {each['signature']}")
            if allowed is None or role in allowed:
                continue
            given = {name: _value(kind) for name, kind in zip(each["names"], each["types"], strict=True)}
            status, body = _read(url, key, f"rpc/{each['name']}?{urlencode(given)}", bearer=bearer)
            if status not in (401, 403, 404):
                yield Finding(
                    "data_api", f"{role} can call rpc/{each['name']} ({_reason(status, body)})",
                    f"revoke execute on function {each['signature']} from public, {role};",
                )  # fmt: skip


def _value(kind: str) -> str:
    """A placeholder of that type."""
    if kind.endswith("[]"):
        return "{}"
    return _VALUES.get(
        kind, "till doctor" if kind in _TEXTS else "2000-01-01" if kind.startswith("timestamp") else "1"
    )


def _read(
    url: str, key: str, path: str, schema: str = "public", bearer: str | None = None
) -> tuple[int, Any]:
    """Status and JSON body; status 0 where nothing answers."""
    headers = {"apikey": key, "Authorization": f"Bearer {bearer or key}", "Accept-Profile": schema}
    try:
        request = Request(f"{url.rstrip('/')}/rest/v1/{path}", headers=headers)  # noqa: S310  the owner's own URL
        # A proxy of the environment knows nothing of loopback.
        opener = build_opener(ProxyHandler({})) if urlsplit(url).hostname in _LOCAL else build_opener()
        with opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
            return answer.status, json.loads(answer.read())
    except HTTPError as error:
        with error:
            return error.code, _json(error.read())
    except (URLError, OSError, ValueError) as error:
        return 0, {"message": str(error)}


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _reason(status: int, body: Any) -> str:
    message = cast("dict[str, Any]", body).get("message") if isinstance(body, dict) else None
    return str(message or f"HTTP {status}")
