"""Damages to the installation, which `till doctor` finds: rights, worker, queue, endpoint, key, plans, files."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

from cli.event_replay import receive
from devstack.paths import migrations_directory
from devstack.release import RELEASE
from tests.reconcile.conftest import Place
from tests.reconcile.damages import Named, Prepared, damage
from tests.reconcile.site import lacking

RETRY_EVENTS = "till events retry --status dead"


def released(place: Place, pattern: str) -> Callable[[], None]:
    """Run again what the release's migration has of it."""
    release = (migrations_directory() / RELEASE).read_text(encoding="utf-8")

    def run() -> None:
        statements = re.findall(pattern, release, re.MULTILINE | re.DOTALL)
        assert statements, pattern
        with place.database.connect() as conn:
            for statement in statements:
                conn.execute(statement)

    return run


def grants_on(name: str) -> str:
    """The statements that give rights on it."""
    return rf"^grant\s[^;]*{re.escape(name)}\b[^;]*;"


# What the release's migration made.


@damage("doctor", times=1)
def a_right_of_users(place: Place) -> Named:
    place.damage("revoke select on public.credit_balance from authenticated")
    name = "public.credit_balance"
    return Named(
        "schema", f"rights on {name} is not as shipped", f"run the grants of {name}",
        released(place, grants_on(name)),
    )  # fmt: skip


@damage("doctor", times=1)
def a_right_of_the_worker(place: Place) -> Named:
    place.damage("revoke execute on function billing.sync_invoice from billing_worker")
    name = "billing.sync_invoice"
    return Named("schema", f"rights on {name}", f"run the grants of {name}", released(place, grants_on(name)))


@damage("doctor", times=1)
def the_schema_of_the_worker(place: Place) -> Named:
    place.damage("revoke usage on schema billing from billing_worker")
    return Named(
        "schema", "rights on schema billing", "run the grants", released(place, grants_on("schema billing"))
    )


@damage("doctor", times=1)
def a_function(place: Place) -> Named:
    place.damage("drop function public.spend_credits")
    name = "public.spend_credits"
    define, grant = rf"^create function {re.escape(name)}\(.*?^\$\$;", grants_on(name)

    def define_again() -> None:
        released(place, define)()
        with place.database.connect() as conn:
            conn.execute("revoke all on function public.spend_credits from public, anon, authenticated")
        released(place, grant)()

    return Named("schema", f"function {name}", "run its definition in the release's migration", define_again)


@damage("doctor", times=1)
def an_edited_function(place: Place) -> Named:
    name = "billing._origin_of"
    definition = place.value("select pg_get_functiondef('billing._origin_of'::regproc)")
    place.damage(definition.replace("AS $function$", "AS $function$ -- faster", 1))

    def define_again() -> None:
        with place.database.connect() as conn:
            conn.execute(definition)

    return Named("schema", f"function {name}", "run its definition in the release's migration", define_again)


@damage("doctor", times=1)
def a_table_without_row_level_security(place: Place) -> Named:
    place.damage("alter table billing.recharges disable row level security")
    return Named(
        "schema", "table billing.recharges is not as shipped", "run its definition in the release's migration",
        released(place, r"^alter table billing\.recharges enable row level security;"),
    )  # fmt: skip


@damage("doctor", times=1)
def a_table_of_theirs(place: Place) -> Named:
    with place.database.connect() as conn:
        conn.execute("create table billing.my_notes (id bigint)")

    def move() -> None:
        with place.database.connect() as conn:
            conn.execute("create schema mine")
            conn.execute("alter table billing.my_notes set schema mine")

    return Named("schema", "billing.my_notes is not of Tillbase", "schema of your own", move)


@damage("doctor", alone=True, is_total=True)
def the_whole_schema(place: Place) -> Named:
    place.damage("drop schema billing cascade")
    return Named("schema", "is missing", "supabase db push")


# Events, notifications, and who processes them.


def _looked_at(number: int) -> bool:
    """Whether a customer is one of those of whom only their addresses change here."""
    return number % 10 == 1


def _changed(place: Place) -> dict[str, Any]:
    """An event of Stripe that says that a customer changed, which arrives only where it is heard."""
    customer = place.business.customers[place.own(_looked_at)]
    place.business.post(f"customers/{customer}", metadata={"seen": "yes"})
    events = place.client.v1.events.list({"type": "customer.updated", "limit": 1}).data
    return json.loads(str(events[0]))


def _receive(place: Place) -> str:
    """An event that nobody has processed."""
    with psycopg.connect(place.database.url, autocommit=True, row_factory=dict_row) as conn:
        receive(conn, event := _changed(place))
    return event["id"]


@damage("doctor")
def a_dead_event(place: Place) -> Named:
    """As after a bug of the version before this one."""
    event = _receive(place)
    place.damage("delete from pgmq.q_stripe_events where message ->> 'event_id' = %s", event)
    place.damage(
        "update billing.stripe_events set status = 'dead', last_error = 'broken', settled_at = now() "
        "where stripe_event_id = %s", event
    )  # fmt: skip
    return Named("dead_events", "dead event", RETRY_EVENTS)


@damage("doctor", times=1)
def a_parked_event(place: Place) -> Prepared:
    customer = place.business.post("customers", email="late@example.com", payment_method="pm_card_visa")["id"]
    place.business.post(
        "subscriptions", customer=customer, items=[{"price": place.business.prices["basic"]}],
        default_payment_method=place.business.of("payment_method", customer)[0]["id"],
    )  # fmt: skip
    yield

    return Named(
        "parked_events", "parked event", "till customers link",
        lambda: place.do(f"till customers link {customer} ACCOUNT --yes"),
    )  # fmt: skip


@damage("doctor", times=1)
def an_event_that_waits(place: Place) -> Named:
    """For a worker that does not come."""
    event = _receive(place)
    place.damage(
        "update pgmq.q_stripe_events set enqueued_at = now() - interval '1 hour' "
        "where message ->> 'event_id' = %s", event
    )  # fmt: skip
    return Named("queue", " wait", "till worker run")


@damage()
def a_lost_message(place: Place) -> Named:
    """As after a restore that left the queue out."""
    event = _receive(place)
    place.damage("delete from pgmq.q_stripe_events where message ->> 'event_id' = %s", event)
    return Named("ledger_discrepancy", event, "till worker run, which queues it again")


@damage("doctor")
def an_event_that_stripe_does_not_answer(place: Place) -> Named:
    """A lookup that failed again and again."""
    event = _receive(place)
    place.damage(
        "insert into billing.stripe_lookups (stripe_event_id, msg_id, attempts, next_attempt_at) "
        "select %s, msg_id, 5, now() from pgmq.q_stripe_events where message ->> 'event_id' = %s", event, event
    )  # fmt: skip
    place.damage(
        "update billing.stripe_events set last_error = 'Stripe is unavailable' where stripe_event_id = %s",
        event,
    )
    return Named("waiting_events", "for Stripe", "check STRIPE_API_KEY of the worker", place.let_work)


@damage("doctor")
def an_undeliverable_notification(place: Place) -> Named:
    place.taken.add(key := f"undeliverable_{len(place.taken)}")
    place.damage(
        "insert into billing.notifications (audience, kind, dedupe_key, payload, status, last_error, attempts) "
        "values ('administrators', 'silence', %s, '{}', 'dead', 'no such host', 9)", str(key)
    )  # fmt: skip
    return Named("notifications", "could not be delivered", "till notifications retry --status dead")


@damage("doctor", times=1)
def no_worker(place: Place) -> Named:
    assert place.site is not None
    place.site.stop_worker()
    return Named("worker", "no worker is connected", "till worker run")


@damage("doctor", alone=True)
def a_worker_that_hangs(place: Place) -> Named:
    place.damage("delete from billing.workers")
    place.damage("insert into billing.workers (pid, last_seen_at) values (1, '2026-01-05 10:00Z')")
    return Named(
        "worker", "a worker is connected, and hangs; the last sign of life is of 2026-01-05 10:00 UTC",
        "restart the worker", lambda: place.query("select billing.hand_back_stripe_events()"),
    )  # fmt: skip


@damage("doctor", times=1)
def a_worker_without_a_key(place: Place) -> Named:
    place.damage(
        "insert into billing.workers (pid, stripe_key_error, stripe_key_failing_since) "
        "values (1, 'STRIPE_API_KEY is not set', now())"
    )
    return Named(
        "worker_key", "STRIPE_API_KEY is not set", "then restart it",
        lambda: place.query("select billing.hand_back_stripe_events()"),
    )  # fmt: skip


@damage("doctor", times=1)
def a_proof_that_stopped(place: Place) -> Named:
    place.damage("update billing.account_proof set round_finished_at = now() - interval '3 days'")
    return Named("proof", "not every account was proved", "till worker run", place.prove)


@damage("doctor")
def a_balance_that_the_proof_found(place: Place) -> Named:
    account = place.account(place.own())
    place.damage("update billing.credit_balances set balance = balance - 1 where account_id = %s", account)
    place.query("select billing._prove_account(%s)", account)
    return Named("discrepancies", "balance_is_the_sum_of_entries", "till credits recalculate")


# Stripe: the endpoint, the key, the plans.


@damage("doctor", times=1)
def a_disabled_endpoint(place: Place) -> Named:
    assert place.site is not None
    place.site.api.webhook_endpoints.update(place.site.endpoint.id, {"disabled": True})
    return Named("webhook", "is disabled", "till webhook verify --fix")


@damage("doctor", times=1)
def an_endpoint_that_lacks_an_event(place: Place) -> Named:
    assert place.site is not None
    place.site.endpoint_row["enabled_events"] = lacking("invoice.paid")
    return Named("webhook", "does not send invoice.paid", "till webhook verify --fix")


@damage("doctor", alone=True)
def an_endpoint_that_sends_everything(place: Place) -> Named:
    assert place.site is not None
    place.site.api.webhook_endpoints.update(place.site.endpoint.id, {"enabled_events": ["*"]})
    return Named("webhook", "sends every event there is", "till webhook verify --fix")


@damage("doctor", alone=True)
def no_endpoint(place: Place) -> Named:
    assert place.site is not None
    place.site.api.webhook_endpoints.delete(place.site.endpoint.id)
    return Named("webhook", "Stripe has no webhook endpoint", "till webhook create")


@damage("doctor", times=1)
def a_wrong_webhook_secret(place: Place) -> Prepared:
    """Deployed with the secret of another endpoint."""
    assert place.site is not None
    site = place.site
    right = site.secrets["STRIPE_WEBHOOK_SECRET"]
    yield
    site.serve(STRIPE_WEBHOOK_SECRET="whsec_of_another_endpoint")
    with site.heard():
        _changed(place)

    def rotate() -> None:
        status, told, error = place.till("webhook", "rotate")
        assert status == 0, (told, error)
        site.serve(STRIPE_WEBHOOK_SECRET=right, **told["secrets"])
        place.till("webhook", "rotate", "--finish")

    return Named("webhook_secret", "STRIPE_WEBHOOK_SECRET", "till webhook rotate", rotate)


@damage("doctor", times=1)
def an_event_that_never_arrived(place: Place) -> Named:
    _changed(place)
    return Named("events_missing", "never arrived", "till events replay")


@damage("doctor", times=1)
def an_expired_key(place: Place) -> Named:
    key = place.environment("STRIPE_API_KEY", "sk_expired")
    return Named("stripe_key", "it has expired or was deleted", "make a new restricted key", key)


@damage("doctor", times=1)
def a_key_that_may_not_read_disputes(place: Place) -> Named:
    settings = place.local.world.settings
    every = {name: "write" for name in RESOURCES if name != "disputes"}
    settings.restricted_keys = {place.key: every}
    return Named(
        "stripe_permission", "the key may not read Disputes", "give the restricted key read permission on Disputes",
        settings.restricted_keys.clear,
    )  # fmt: skip


RESOURCES = (
    "account", "events", "customers", "products", "prices", "subscriptions", "invoices", "invoice_payments",
    "credit_notes", "charges", "refunds", "payment_intents", "payment_methods", "checkout", "payment_links", "reviews",
    "radar", "webhook_endpoints",
)  # fmt: skip


@damage("doctor", times=1)
def the_other_mode(place: Place) -> Named:
    place.damage("update billing.settings set livemode = true")
    return Named(
        "stripe_key", "is a key of test mode", "export the key of this installation's account and mode",
        lambda: place.query("update billing.settings set livemode = false returning 1"),
    )  # fmt: skip


@damage("doctor", times=1)
def another_stripe_account(place: Place) -> Named:
    held = place.value("select stripe_account_id from billing.settings")
    place.damage("update billing.settings set stripe_account_id = 'acct_other'")
    return Named(
        "stripe_key", "belongs to acct_other", "export the key",
        lambda: place.query("update billing.settings set stripe_account_id = %s returning 1", held),
    )  # fmt: skip


def _own_price(place: Place) -> tuple[str, str]:
    """A price that one customer subscribes to."""
    product = place.business.post("products", name="Own plan")["id"]
    price = place.business.post(
        "prices", product=product, currency="usd", unit_amount=4900, recurring={"interval": "month"},
        metadata={"monthly_credits": "70"},
    )["id"]  # fmt: skip
    customer = place.business.customers[place.own(lambda number: number % 10 == 3)]
    place.business.post("subscriptions", customer=customer, items=[{"price": price}])
    return product, price


@damage("doctor")
def a_plan_without_credits(place: Place) -> Prepared:
    _, price = _own_price(place)
    place.business.post(f"prices/{price}", metadata={"monthly_credits": "0"})
    yield

    def declare() -> None:
        place.business.post(f"prices/{price}", metadata={"monthly_credits": "70"})
        place.mend("till plans sync")

    return Named("plan_without_credits", f"({price}) give", "declare monthly_credits", declare)


@damage("doctor")
def an_unknown_price(place: Place) -> Prepared:
    _, price = _own_price(place)
    yield
    place.damage("delete from billing.plans where stripe_price_id = %s", price)
    return Named("unknown_price", price, "till plans sync")


# Files of the project.


def _file(place: Place, pattern: str) -> Path:
    assert place.site is not None
    [found] = place.site.directory.glob(pattern)
    return found


@damage("doctor", times=1)
def an_edited_migration(place: Place) -> Named:
    migration = _file(place, "supabase/migrations/*.sql")
    was = migration.read_text()
    migration.write_text("-- edited\n")
    return Named("files", f"{migration.name} was edited", "restore it", lambda: migration.write_text(was))


@damage("doctor", times=1)
def an_edited_edge_function(place: Place) -> Named:
    _file(place, "supabase/functions/portal/handler.ts").write_text("// edited\n")
    return Named("files", "functions/portal/handler.ts was edited", "till init --upgrade --overwrite")


@damage("doctor", times=1)
def a_missing_file(place: Place) -> Named:
    _file(place, "supabase/functions/checkout/index.ts").unlink()
    return Named("files", "supabase/functions/checkout/index.ts is missing", "till init")


@damage("doctor", times=1)
def an_edge_function_that_wants_a_token(place: Place) -> Named:
    """Supabase would refuse Stripe's requests."""
    config = _file(place, "supabase/config.toml")
    was = config.read_text()
    block = re.search(r"\[functions\.stripe-webhook\][^\[]*", was)
    assert block is not None
    config.write_text(was.replace(block[0], block[0].replace("verify_jwt = false", "verify_jwt = true")))
    return Named(
        "files", "[functions.stripe-webhook] of supabase/config.toml lacks verify_jwt = false", "set it",
        lambda: config.write_text(was),
    )  # fmt: skip
