"""The settings' row and the environment → docs/reference/settings.md and environment.md."""

import re
from collections.abc import Iterator

from tests.reference.catalogue import ROOT, Connection, columns, plain_type
from tests.reference.markdown import code, page, sentence, table

_SETTINGS = """
One row, `billing.settings`. Change it as `postgres`, in the SQL editor or in a migration of your own:

```sql
update billing.settings set site_url = 'https://app.example.com', trial_without_card = 'cancel';
```

Every setting has a default, and a change applies to what happens afterwards.
"""
# Not for people to set.
_OWN = {"id", "updated_at"}

_ENVIRONMENT = """
What each process reads from its environment. On Supabase the edge functions' are secrets: `supabase secrets set
NAME=…`. Names that Supabase itself sets are marked.
"""
# The code names a variable where it reads it; what it is for is said here, and a test holds the two together.
VARIABLES: dict[str, dict[str, str]] = {
    "The worker and `till`": {
        "POSTGRES_URL": "Connection string of the project's database: direct, or the pooler in session mode (port 5432).",
        "STRIPE_API_KEY": "Restricted key of Stripe. Without it the worker does what needs no answer of Stripe.",
        "STRIPE_API_BASE": "Another Stripe than Stripe's own: the local one. Refused with a live key.",
        "WORKER_METRICS_ADDRESS": "`host:port` on which the worker serves Prometheus metrics; none if not set.",
        "TILLBASE_NOTIFY_URLS": "Where administrators are notified: apprise URLs, separated by spaces.",
        "TILLBASE_CUSTOMER_MAIL_URL": "What customers' e-mail is sent by: a `mailtos://` URL.",
        "TILLBASE_TEMPLATES": "A directory of your own notification templates.",
        "OTEL_SERVICE_NAME": "With `tillbase[otel]` and `OTEL_EXPORTER_OTLP_ENDPOINT`: the worker's name in traces. Default: `tillbase-worker`. The SDK reads all other `OTEL_…` variables.",
    },
    "`till` only": {
        "WORKER_METRICS_URL": "Where the dashboard reads the worker's metrics, such as `http://127.0.0.1:9464/metrics`.",
        "WEBHOOK_URL": "The webhook endpoint's URL, for `till webhook` and `till doctor` outside a linked Supabase project.",
        "FUNCTIONS_URL": "Where `till deploy --check` finds the edge functions outside a linked Supabase project; the local stack sets it.",
        "SUPABASE_PUBLISHABLE_KEY": "The project's publishable key: `till doctor` reads with it as a visitor does.",
        "SUPABASE_USER_TOKEN": "A user's access token: `till doctor --security` tries with it what a signed-in user must not do.",
        "DATABASE_URL": "The local stack's database as superuser; set by it.",
        "TILL_STATE": "Directory of the local stack's state. Default: `.till/` of the current directory.",
        "TILLBASE_POSTGRES": "Version of PostgreSQL of the local stack and of the tests: `17` (default), `15`, `16` or `18`.",
        "TILL_DASHBOARD_TOKEN": "The token of the dashboard that `till dev` starts; set by it.",
    },
    "Edge functions": {
        "STRIPE_WEBHOOK_SECRET": "`stripe-webhook`: signing secret (`whsec_…`) of the endpoint; several, separated by spaces or commas, while one is rotated.",
        "STRIPE_WEBHOOK_SECRET_NEXT": "`stripe-webhook`: the signing secret of the endpoint that replaces the first, see `till webhook rotate`.",
        "STRIPE_API_KEY": "`checkout`, `portal`, `payment-links`: restricted key of Stripe.",
        "STRIPE_API_BASE": "Another Stripe than Stripe's own: the local one.",
        "SUPABASE_DB_URL": "Connection string of the database. Supabase sets it.",
        "SUPABASE_JWKS": "The project's public keys, which verify access tokens. Supabase sets it.",
        "SUPABASE_URL": "The project's URL, which names the issuer of access tokens. Supabase sets it.",
        "BILLING_JWT_ISSUER": "Issuers of access tokens, where they are others than `SUPABASE_URL`'s: a custom domain, for example.",
        "BILLING_DB_CONNECTIONS": "Connections of one function instance to the database.",
    },
}  # fmt: skip


def settings(conn: Connection) -> str:
    """The page of settings."""
    checks = dict(
        conn.execute(
            """
            select a.attname, pg_get_expr(c.conbin, c.conrelid, true) from pg_constraint as c
            join pg_attribute as a on a.attrelid = c.conrelid and c.conkey = array[a.attnum]
            where c.conrelid = 'billing.settings'::regclass and c.contype = 'c'
            """
        ).fetchall()
    )
    rows = [
        [
            code(one.name),
            code(one.type),
            code(plain_type(one.default or "null")),
            sentence(one.comment or ""),
            code(_check(one.name, checks.get(one.name))),
        ]
        for one in columns(conn, "billing.settings")
        if one.name not in _OWN
    ]
    return page("Settings", _SETTINGS, [table(["setting", "type", "default", "meaning", "allowed"], rows)])


def _check(name: str, expression: str | None) -> str:
    """A CHECK as people write it: the values of a list, or the condition."""
    if expression is None or "billing._" in expression:
        return ""  # a function of ours judges it: its error says what is wrong
    listed = re.search(r"ANY \(ARRAY\[(.*)\]\)", expression)
    if listed:
        return ", ".join(re.findall(r"'(\w+)'", listed[1]))
    return re.sub(rf"\b{name} (?=[<>~])", "", plain_type(expression)).replace(" AND ", " and ")


def environment() -> str:
    """The page of environment variables."""
    parts = [
        f"## {title}\n\n"
        + table(["variable", "meaning"], [[code(name), text] for name, text in names.items()])
        for title, names in VARIABLES.items()
    ]
    return page("Environment variables", _ENVIRONMENT, parts)


def variables_read() -> Iterator[str]:
    """Every variable that the code reads: what the local stack hands on to its own processes is theirs."""
    python = [
        *(ROOT / "worker").rglob("*.py"),
        *(ROOT / "cli").rglob("*.py"),
        *(ROOT / "devstack").glob("*.py"),
    ]
    edge = (
        file for file in (ROOT / "supabase/functions").rglob("*.ts") if not file.name.endswith("_test.ts")
    )
    for pattern, files in (
        (r'(?:environ\.(?:get|pop)\(|\benvironment\.get\(|\bsetting\()"([A-Z_]+)"', python),
        (r'^VERSION_VARIABLE = "([A-Z_]+)"', python),
        (r'\benv(?:\.get)?\("([A-Z_]+)"\)', edge),
    ):
        for file in files:
            yield from re.findall(pattern, file.read_text(), re.MULTILINE)
