"""SUPABASE_URL and the publishable key → what an app's client reads, and what it must not."""

import json
from collections.abc import Iterator
from typing import Any, cast
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, Request, build_opener

from cli.findings import Finding

TIMEOUT_SECONDS = 10
_LOCAL = ("127.0.0.1", "localhost", "::1")


def visitor(url: str, key: str) -> Iterator[Finding]:
    """As somebody who is not signed in: plans are to be read, and nothing else."""
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


def _read(url: str, key: str, path: str, schema: str = "public") -> tuple[int, Any]:
    """Status and JSON body; status 0 where nothing answers."""
    headers = {"apikey": key, "Authorization": f"Bearer {key}", "Accept-Profile": schema}
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
