"""`till reconcile --from-mirror`: tables of Stripe's sync engine instead of Stripe's lists, with the same findings."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from psycopg import sql

from cli.reconcile.stripe_lists import StripeLists
from tests.reconcile.conftest import Place
from tests.reconcile.damages import DAMAGES

# Kind → its table as supabase/stripe-sync-engine names it, and as Stripe's own successor does.
TABLES = {
    "customer": ("customers", "customer"),
    "subscription": ("subscriptions", "subscription"),
    "invoice": ("invoices", "invoice"),
    "invoice_payment": ("invoice_payments", "invoice_payment"),
    "charge": ("charges", "charge"),
    "refund": ("refunds", "refund"),
    "dispute": ("disputes", "dispute"),
    "credit_note": ("credit_notes", "credit_note"),
    "radar.early_fraud_warning": ("early_fraud_warnings", "early_fraud_warning"),
}
PATHS = {
    "radar.early_fraud_warning": "radar/early_fraud_warnings", "subscription": "subscriptions?status=all",
    "invoice_payment": "invoice_payments?status=paid",
}  # fmt: skip

# The columns that matter here, of the types and names that the migrations of supabase/stripe-sync-engine give them.
TYPED = """
create schema stripe;
create type stripe.subscription_status as enum (
    'trialing', 'active', 'canceled', 'incomplete', 'incomplete_expired', 'past_due', 'unpaid', 'paused'
);
create type stripe.invoice_status as enum ('draft', 'open', 'paid', 'uncollectible', 'void', 'deleted');
create table stripe.customers (
    id text primary key, object text, email text, metadata jsonb, name text, created integer, currency text,
    livemode boolean, deleted boolean default false not null,
    updated_at timestamptz default now() not null, last_synced_at timestamptz
);
create table stripe.subscriptions (
    id text primary key, object text, cancel_at_period_end boolean, current_period_end integer, items jsonb,
    metadata jsonb, status stripe.subscription_status, billing_cycle_anchor integer, cancel_at integer,
    canceled_at integer, created integer, ended_at integer, livemode boolean, pause_collection jsonb, trial_end jsonb,
    trial_start jsonb, customer text, latest_invoice text, plan text, updated_at timestamptz default now() not null,
    last_synced_at timestamptz
);
create table stripe.invoices (
    id text primary key, object text, currency text, lines jsonb, metadata jsonb, status stripe.invoice_status,
    total bigint, amount_due bigint, amount_paid bigint, created integer, livemode boolean, paid boolean,
    status_transitions jsonb, customer text, subscription text, payment_intent text, charge text,
    updated_at timestamptz default now() not null, last_synced_at timestamptz
);
create table stripe.invoice_payments (
    id text primary key, object text, amount_paid bigint, amount_requested bigint, created integer, currency text,
    invoice text, is_default boolean, livemode boolean, payment jsonb, status text, status_transitions jsonb,
    last_synced_at timestamptz, updated_at timestamptz default now() not null
);
create table stripe.charges (
    id text primary key, object text, paid boolean, amount bigint, status text, created integer, dispute text,
    invoice text, outcome jsonb, captured boolean, currency text, customer text, livemode boolean, refunded boolean,
    payment_intent text, amount_refunded bigint, updated_at timestamptz default now() not null,
    last_synced_at timestamptz
);
create table stripe.payment_intents (
    id text primary key, object text, amount integer, created integer, currency text, customer text, invoice text,
    livemode boolean, status text, last_synced_at timestamptz
);
create table stripe.refunds (
    id text primary key, object text, amount integer, charge text, created integer, currency text, metadata jsonb,
    payment_intent text, reason text, status text, updated_at timestamptz default now() not null,
    last_synced_at timestamptz
);
create table stripe.disputes (
    id text primary key, object text, amount bigint, charge text, reason text, status text, created integer,
    currency text, livemode boolean, payment_intent text, updated_at timestamptz default now() not null,
    last_synced_at timestamptz
);
create table stripe.credit_notes (
    id text primary key, object text, amount integer, created integer, currency text, customer text, invoice text,
    lines jsonb, livemode boolean, status text, total integer, last_synced_at timestamptz
);
create table stripe.early_fraud_warnings (
    id text primary key, object text, actionable boolean, charge text, created integer, fraud_type text,
    livemode boolean, payment_intent text, updated_at timestamptz default now() not null, last_synced_at timestamptz
);
"""
# The successor keeps the whole object, and has generated columns, of which it needs the id.
RAW = "create schema stripe;" + "".join(
    f"""
create table stripe.{name} (
    "_raw_data" jsonb not null, "_synced_at" timestamptz not null default now(),
    "_updated_at" timestamptz not null default now(), "_account_id" text,
    id text generated always as ((_raw_data ->> 'id')::text) stored primary key
);"""
    for _, name in TABLES.values()
)
SHAPES = {"typed": TYPED, "raw": RAW}
# What is not of Stripe's object.
_COLUMNS = {"deleted": False, "updated_at": "now"}


class Mirror:
    """The sync engine beside a place, which syncs when it is told to."""

    def __init__(self, place: Place, shape: str) -> None:
        self.place, self.shape = place, shape
        with place.database.connect(admin=True) as conn:
            conn.execute(SHAPES[shape].encode())
            conn.execute("grant usage on schema stripe to postgres")
            conn.execute("grant select on all tables in schema stripe to postgres")

    def table(self, kind: str) -> str:
        return TABLES[kind][0 if self.shape == "typed" else 1]

    def sync(self, *kinds: str) -> None:
        """Everything of these kinds, as Stripe has it now."""
        with self.place.database.connect(admin=True) as conn:
            for kind in kinds or TABLES:
                name = sql.Identifier("stripe", self.table(kind))
                conn.execute(sql.SQL("delete from {}").format(name))
                insert = (
                    sql.SQL("insert into {} select * from jsonb_populate_record(null::{}, %s)")
                    if self.shape == "typed"
                    else sql.SQL("insert into {} (_raw_data, _account_id) values (%s, {})")
                ).format(
                    name, name if self.shape == "typed" else sql.Literal(self.place.local.world.account_id)
                )
                for body in self.objects(kind):
                    conn.execute(insert, [json.dumps(body if self.shape == "raw" else _COLUMNS | body)])

    def objects(self, kind: str) -> Iterator[dict[str, Any]]:
        path, _, query = PATHS.get(kind, f"{kind}s").partition("?")
        after = ""
        while True:
            page = self.place.local.call("GET", f"/v1/{path}", f"limit=100&{query}{after}").json()
            yield from page["data"]
            if not page["has_more"]:
                return
            after = f"&starting_after={page['data'][-1]['id']}"

    def findings(self, *options: object) -> list[dict[str, str]]:
        return self.place.findings("--from-mirror", *options)


@pytest.fixture
def place(place_with_history: Place) -> Place:
    return place_with_history


@pytest.fixture(params=SHAPES)
def mirror(place: Place, request: pytest.FixtureRequest) -> Mirror:
    """Synced. Stripe's pages are short, so that the newest of a kind are few."""
    place.monkeypatch.setattr("cli.reconcile.stripe_lists.PAGE", 10)
    mirror = Mirror(place, request.param)
    mirror.sync()
    return mirror


def reads(place: Place) -> list[str]:
    """Paths that Stripe is asked for from now on."""
    paths: list[str] = []
    get = StripeLists._get

    def counted(self: StripeLists, path: str, params: Mapping[str, Any]) -> Any:
        paths.append(path)
        return get(self, path, params)

    place.monkeypatch.setattr(StripeLists, "_get", counted)
    return paths


def test_of_what_is_the_same_only_the_newest_is_read_from_stripe(mirror: Mirror) -> None:
    paths = reads(mirror.place)
    assert mirror.findings() == []
    of_mirror = {f"/v1/{PATHS.get(kind, f'{kind}s').partition('?')[0]}" for kind in TABLES}
    assert {path: paths.count(path) for path in of_mirror} == dict.fromkeys(of_mirror, 1)


OF_THE_MIRROR = (
    "a_customers_new_address", "a_deleted_customer", "a_changed_subscription", "an_ended_subscription",
    "another_plan", "a_new_subscription", "a_paid_invoice", "a_refund", "a_dispute", "a_fraud_warning",
    "a_credit_note", "an_edited_status", "a_deleted_subscription_item", "a_deleted_invoice_line",
    "an_edited_invoice_line", "a_voided_invoice", "an_edited_total", "a_deleted_invoice_payment",
    "an_edited_refund", "a_forged_refund", "an_edited_charge", "an_edited_credit_note", "a_lost_link",
    "edited_credits_of_a_price", "a_deleted_grant",
)  # fmt: skip


@pytest.mark.parametrize("name", OF_THE_MIRROR)
def test_a_damage_is_found_and_mended_by_the_mirror(name: str, place: Place) -> None:
    mirror = Mirror(place, list(SHAPES)[OF_THE_MIRROR.index(name) % 2])
    place.monkeypatch.setattr("cli.reconcile.stripe_lists.PAGE", 10)
    mirror.sync()
    named = DAMAGES[name].begin(place)()
    mirror.sync()
    found = [each for each in mirror.findings() if named.names(each)]
    assert len(found) == 1, mirror.findings()
    place.mend(found[0]["mend"].replace("--apply", "--apply --from-mirror"))
    for _ in range(2):
        if left := mirror.findings():  # what is mended may show what else is missing
            place.mend(left[0]["mend"])
    assert mirror.findings() == []
    assert place.findings() == []
    place.assert_sound()


def test_a_mirror_that_is_behind_is_named_and_makes_no_difference(mirror: Mirror) -> None:
    place = mirror.place
    customer = place.business.customers[0]
    place.business.post(f"customers/{customer}", email="moved@example.com")
    place.mend("till reconcile --apply")
    [finding] = mirror.findings()
    assert (finding["check"], finding["severity"]) == ("mirror_behind", "warning")
    assert finding["what"] == f"customers: the mirror has 1 not as Stripe has them, such as {customer}"


def test_what_neither_has_heard_of_is_found_in_stripes_newest(mirror: Mirror) -> None:
    place = mirror.place
    intent = place.business.of("payment_intent", place.business.customers[0])[0]["id"]
    made = [place.business.post("refunds", payment_intent=intent, amount=1)["id"] for _ in range(12)]
    found = mirror.findings()
    missing = {each["what"] for each in found if each["check"] == "refund_missing"}
    assert missing == {f"refund {refund} is not in the database" for refund in made}
    # Of the page with the last of them, the mirror has the rest.
    [behind] = [each["what"] for each in found if "refunds" in each["what"]]
    assert behind == "refunds: the mirror lacks 12 of the newest, which were compared with Stripe's list"


def test_a_table_that_is_lacking_is_named_and_read_from_stripe(mirror: Mirror) -> None:
    place = mirror.place
    named = DAMAGES["an_edited_refund"].begin(place)()
    place.damage(f"drop table stripe.{mirror.table('refund')}")
    found = mirror.findings()
    assert [each for each in found if named.names(each)]
    [lacking] = [each for each in found if each["check"] == "mirror_behind"]
    assert "schema stripe has no table refunds, so they were read from Stripe" in lacking["what"]


def test_of_a_mirror_that_is_hardly_filled_stripes_list_is_read(mirror: Mirror) -> None:
    place = mirror.place
    place.monkeypatch.setattr("cli.reconcile.compare.SUSPECTS_MAX", 3)
    place.monkeypatch.setattr("cli.reconcile.mirror.SUSPECTS_MAX", 3)
    place.damage(f"delete from stripe.{mirror.table('charge')}")
    [finding] = mirror.findings()
    assert finding["what"] == "charges: more than 3 seem to differ, so Stripe's list was read"


def test_rows_of_another_account_are_not_ours(place: Place) -> None:
    place.query(
        "update billing.settings set stripe_account_id = %s returning 1", place.local.world.account_id
    )
    mirror = Mirror(place, "raw")
    mirror.sync()
    assert mirror.findings() == []
    place.damage("update stripe.customer set _account_id = 'acct_other'")
    paths = reads(place)
    assert {each["check"] for each in mirror.findings()} == {"mirror_behind"}
    assert "/v1/customers" in paths


def test_without_a_mirror_it_says_so(place: Place) -> None:
    status, told, error = place.till("reconcile", "--from-mirror")
    assert (status, told) == (1, None)
    assert "schema stripe has no table of Stripe's sync engine" in error
