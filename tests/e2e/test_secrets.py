"""A whole demo, with failures on the way: no secret and nothing of a customer is in a log, a metric, an error or a
process's arguments, and no secret is on a page of the dashboard.

Addresses may be on the dashboard's pages, and in what a command prints for the administrator who asked.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
import stripe

from cli.commands.demo import Story
from cli.shop import Shop
from devstack.stack import Stack
from devstack.tokens import SigningKeys
from tests.e2e.conftest import wait_until
from tests.worker.inboxes import Webhook, mail_server, webhook

EMAIL, NAME = "ada@example.com", "Ada Lovelace"
NEW_EMAIL = "ada.new@example.com"
CARD, LAST4 = "4242424242424242", "4242"
MAIL_PASSWORD, HOOK_TOKEN = "smtp-passw0rd", "h00k-t0ken"
# The kinds of messages that a customer gets here.
KINDS = "{receipt,payment_failed,low_balance,card_expiring}"

Sink = Callable[["Demo"], str]


@dataclass
class Demo:
    """What a demo left behind, by the place that it could leak to."""

    secrets: dict[str, str]
    logs: dict[str, str] = field(default_factory=dict[str, str])
    arguments: set[str] = field(default_factory=set[str])
    metrics: str = ""
    pages: dict[str, str] = field(default_factory=dict[str, str])
    errors: list[str] = field(default_factory=list[str])

    @property
    def personal(self) -> dict[str, str]:
        return {"address": EMAIL, "new address": NEW_EMAIL, "name": NAME, "card number": CARD}


def processes_below(root: int) -> set[int]:
    """A process and all that came of it."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue  # it ended meanwhile
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def arguments_below(root: int) -> set[str]:
    found: set[str] = set()
    for pid in processes_below(root) - {root}:
        try:
            found.add((Path("/proc") / str(pid) / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


def play(stack: Stack, shop: Shop, demo: Demo, hook: Webhook) -> None:
    """The story of `make demo`, then everything that can go wrong and is logged."""
    Story(shop).play()
    ada = shop.sign_up(EMAIL)
    with psycopg.connect(stack.settings["DATABASE_URL"], autocommit=True) as admin:
        shop.stripe.customers.update(ada.customer_id, {"name": NAME})
        # A mail server that repeats the address that it refuses.
        admin.execute(
            "insert into billing.notifications (account_id, audience, kind, dedupe_key, payload) "
            "values (%s, 'customer', 'receipt', 'again', '{}')",
            [ada.account_id],
        )
        admin.execute("update auth.users set email = %s where id = %s", [NEW_EMAIL, ada.user_id])
        shop.settle()
        deliver(
            stack, "customer.updated", {"id": ada.customer_id, "object": "customer", "email": {"x": EMAIL}}
        )
        deliver(
            stack,
            "charge.succeeded",
            {"id": "ch_x", "object": "charge", "status": EMAIL, "description": NAME},
        )
        deliver(stack, "invoice.paid", {"object": "invoice", "customer_email": EMAIL, "id": [EMAIL]})
        deliver(stack, "customer.created", {"object": "customer", "email": EMAIL}, secret="whsec_wrong")
        shop.settle()
        waiting = "select count(*) from billing.notifications where status in ('queued', 'sending')"
        wait_until(lambda: admin.execute(waiting).fetchone() == (0,), "notifications are sent")
        hook.status = 500
        admin.execute(
            "insert into billing.notifications (audience, kind, dedupe_key, payload) "
            "values ('administrators', 'silence', 'refused', '{}')"
        )
        refused = "select last_error from billing.notifications where dedupe_key = 'refused'"
        wait_until(lambda: admin.execute(refused).fetchone() != (None,), "one is refused")
    functions = stack.settings["FUNCTIONS_URL"]
    keys = SigningKeys.load(Path(stack.settings["TILL_STATE"]))
    token = keys.access_token(ada.user_id, EMAIL)
    demo.secrets["access token"] = token
    for bearer in (token, token[:-5], "nonsense"):
        for path in ("checkout", "portal", "payment-links"):
            answer = httpx.post(
                f"{functions}/{path}",
                headers={"Authorization": f"Bearer {bearer}"},
                json={"plan": "pro", "success_url": f"https://evil.example/{EMAIL}"},
                timeout=30,
            )
            demo.errors.append(answer.text)


def deliver(stack: Stack, kind: str, body: dict[str, object], secret: str | None = None) -> None:
    """An event as Stripe signs it."""
    payload = json.dumps(
        {"id": f"evt_{kind}_{os.urandom(4).hex()}", "object": "event", "type": kind, "livemode": False,
         "api_version": "2026-10-28.endive", "created": 1_800_000_000, "data": {"object": body}}
    )  # fmt: skip
    header = stripe.WebhookSignature.generate_signature_header(
        payload, secret or stack.settings["STRIPE_WEBHOOK_SECRET"]
    )
    answer = httpx.post(
        stack.settings["WEBHOOK_URL"], content=payload, headers={"Stripe-Signature": header}, timeout=30
    )
    assert answer.status_code == (200 if secret is None else 400), answer.text


def errors_of_commands(stack: Stack, till: Callable[..., str]) -> list[str]:
    """What commands say when something is wrong with their settings."""
    url = urlsplit(stack.settings["POSTGRES_URL"])
    unreachable = f"postgresql://{url.username}:{url.password}@127.0.0.1:1/postgres"
    return [
        till("accounts", "list", POSTGRES_URL=unreachable),
        till("accounts", "list", POSTGRES_URL=unreachable.replace("postgresql", "nonsense")),
        till("worker", "run", POSTGRES_URL=f"postgresql://x:{url.password}@y:bad port/z"),
        till("plans", "sync", STRIPE_API_BASE="http://127.0.0.1:1"),
        till("doctor"),
        till("credits", "spend", EMAIL, "1000000", "--key", "too-much"),
    ]


def pages_of(client: httpx.Client, start: str) -> dict[str, str]:
    """Every page of the dashboard that links lead to, and one that is not there."""
    pages: dict[str, str] = {}
    waiting = [start, "/nowhere", "/accounts?search=ada@example.com"]
    while waiting:
        path = waiting.pop()
        if path in pages or len(pages) > 150:
            continue
        answer = client.get(path, follow_redirects=True)
        pages[path] = answer.text
        waiting += [link for link in re.findall(r'href="(/[^"#]*)"', answer.text) if "static" not in link]
    return pages


@pytest.fixture(scope="module")
def demo() -> Demo:
    """A demo on a stack of its own, whose worker writes to administrators and customers."""
    patch = pytest.MonkeyPatch()
    with (
        tempfile.TemporaryDirectory(prefix="tillbase-stack-", ignore_cleanup_errors=True) as name,
        mail_server() as mail,
        webhook(f"/hooks/{HOOK_TOKEN}") as hook,
        patch.context() as environment,
    ):
        state = Path(name)
        state.chmod(0o711)  # as root, Postgres runs as another user and must get through
        mail.refusals[EMAIL] = f"550 5.1.1 <{EMAIL}>: no such user"
        mail_url = mail.url_with("till", MAIL_PASSWORD).replace("/ops@example.com", "/")
        environment.setenv("TILLBASE_NOTIFY_URLS", f"{hook.url} {mail.url_with('till', MAIL_PASSWORD)}")
        environment.setenv("TILLBASE_CUSTOMER_MAIL_URL", mail_url)
        with Stack.start(state, durable=False) as stack, Shop(stack.settings) as shop:
            settings = stack.settings
            keys = SigningKeys.load(state)
            demo = Demo(
                {
                    "Stripe key": settings["STRIPE_API_KEY"],
                    "webhook secret": settings["STRIPE_WEBHOOK_SECRET"],
                    "database password": str(urlsplit(settings["POSTGRES_URL"]).password),
                    "Supabase secret key": settings["SUPABASE_SECRET_KEY"],
                    "signing key": keys.jwk["d"],
                    "dashboard token": settings["DASHBOARD_URL"].partition("token=")[2],
                    "mail password": MAIL_PASSWORD,
                    "notification token": HOOK_TOKEN,
                }
            )
            with psycopg.connect(settings["DATABASE_URL"], autocommit=True) as admin:
                admin.execute("update billing.settings set customer_notifications = %s", [KINDS])
            demo.arguments |= arguments_below(os.getpid())
            play(stack, shop, demo, hook)
            demo.arguments |= arguments_below(os.getpid())
            demo.metrics = httpx.get(settings["WORKER_METRICS_URL"]).text
            demo.errors += errors_of_commands(stack, till_of(stack))
            with httpx.Client(base_url=settings["DASHBOARD_URL"].partition("/?")[0], timeout=30) as client:
                client.get(settings["DASHBOARD_URL"])
                demo.pages = pages_of(client, "/")
        demo.logs = {
            file.name: file.read_text(errors="replace") for file in state.rglob("*.log*") if file.is_file()
        }
    return demo


def till_of(stack: Stack) -> Callable[..., str]:
    """Run a command that fails: what it says."""

    def run(*arguments: str, **settings: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", "from cli.main import main; main()", *arguments],
            env={**os.environ, **stack.settings, **settings, "COLUMNS": "200"},
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode in (1, 2), (arguments, done.stdout)
        return done.stdout + done.stderr

    return run


def leaks(text: str, needles: dict[str, str]) -> list[str]:
    """What of the needles is in a text, with the place."""
    return [
        f"{what}: …{text[max(0, at - 80) : at + 80]}…"
        for what, needle in needles.items()
        if (at := text.lower().find(needle.lower())) >= 0
    ]


def digits(text: str) -> list[str]:
    """The last digits of the card, as a number of their own."""
    return [
        text[max(0, at.start() - 80) : at.end() + 80]
        for at in re.finditer(rf"(?<![\w.-]){LAST4}(?![\w.])", text)
    ]


def test_the_demo_reached_every_sink(demo: Demo) -> None:
    """Else nothing is shown by what is not found."""
    assert {"worker.log", "stripe.log", "dashboard.log", "postgres.log"} <= demo.logs.keys()
    assert "notification_dead" in demo.logs["worker.log"]
    assert "not_notified" in demo.logs["worker.log"]
    assert "event_dead" in demo.logs["worker.log"]
    assert "till_connected" in demo.metrics
    assert len(demo.pages) > 10
    assert any(EMAIL in page or NEW_EMAIL in page for page in demo.pages.values())
    assert len(demo.arguments) >= 5
    assert all(demo.errors)


def test_no_log_has_a_secret_or_anything_of_a_customer(demo: Demo) -> None:
    found = {
        name: leaks(text, demo.secrets | demo.personal) + digits(text) for name, text in demo.logs.items()
    }
    assert {name: places for name, places in found.items() if places} == {}


def test_no_metric_has_a_secret_or_anything_of_a_customer(demo: Demo) -> None:
    assert leaks(demo.metrics, demo.secrets | demo.personal) + digits(demo.metrics) == []


def test_no_process_has_a_secret_or_anything_of_a_customer_in_its_arguments(demo: Demo) -> None:
    text = "\n".join(demo.arguments)
    assert leaks(text, demo.secrets | demo.personal) + digits(text) == []


def test_no_error_has_a_secret_or_a_card(demo: Demo) -> None:
    """An administrator's own words may be repeated; so may an address that was asked for."""
    text = "\n".join(demo.errors)
    assert leaks(text, demo.secrets | {"card number": CARD, "name": NAME}) + digits(text) == []


def test_no_page_of_the_dashboard_has_a_secret_or_a_card(demo: Demo) -> None:
    found = {
        path: leaks(page, demo.secrets | {"card number": CARD}) + digits(page)
        for path, page in demo.pages.items()
    }
    assert {path: places for path, places in found.items() if places} == {}
