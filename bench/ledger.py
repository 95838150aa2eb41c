"""A running Postgres → templates of ledgers to measure on, what makes a copy bare, and the proof that all is well.

Accounts are numbered from 1; the id of one is `md5(number::text)::uuid`, which every client can work out for itself.
"""

from hashlib import md5
from uuid import UUID

import psycopg

from devstack.migrate import migrate
from devstack.paths import migrations_directory
from devstack.postgres import Postgres
from devstack.scaffold import create_database

MONTHLY_CREDITS = 500

# Without triggers: signing up would open accounts with ids of their own.
_SIGN_UP = """
set session_replication_role = replica;
insert into auth.users (id, email)
select md5('user ' || number)::uuid, number || '@example.com' from generate_series(1, {accounts}) as number;
set session_replication_role = origin;
insert into billing.accounts (id, owner_id)
select md5(number::text)::uuid, md5('user ' || number)::uuid from generate_series(1, {accounts}) as number;
"""
_GRANT = """
select count(billing.grant_credits(account_id => id, amount => 1000000000, idempotency_key => 'opening ' || id))
from billing.accounts
"""
# All lots are due: each account's were granted one after the other, by turns with the others', and so they expire.
_DUE_LOTS = """
set session_replication_role = replica;
insert into billing.accounts (id) select md5(number::text)::uuid from generate_series(1, {accounts}) as number;
insert into billing.credit_balances (account_id, balance, next_due_at)
select id, 100 * {lots}, now() - interval '1 hour' * {lots} from billing.accounts;
insert into billing.credit_entries
    (account_id, kind, amount, balance_after, source, key_space, idempotency_key, occurred_at)
select id, 'grant', 100, 100 * number, 'app', 'caller', 'grant ' || number, now() - interval '30 days'
from billing.accounts cross join generate_series(1, {lots}) as number
order by number, id;
insert into billing.credit_grants
    (account_id, entry_id, amount, remaining, effective_at, expires_at, source, key_space, idempotency_key)
select
    account_id, id, amount, amount, occurred_at, now() - interval '1 hour' * (1 + {lots} - balance_after / 100), source,
    key_space, idempotency_key
from billing.credit_entries
order by id;
set session_replication_role = origin;
"""
# Everybody has a year's plan, and a month of it granted; the next began within the last day, in the order of sign-up.
# Ids are as long as Stripe's, and ascend like those, which begin with the time; ours are random.
_DUE_SLOTS = """
create temporary table subscribers as
select
    number, md5(number::text)::uuid as account_id, 'price_1MoBy5LkdIwHu7ixZhnattbh' as stripe_price_id,
    lpad(to_hex(number), 6, '0') || substr(md5('stripe ' || number), 1, 8) as short_id,
    lpad(to_hex(number), 6, '0') || substr(md5('stripe ' || number), 1, 18) as long_id,
    date_trunc('second', now() - interval '1 month' - interval '1 day' * (1 - number / {subscribers}.0)) as anchor
from generate_series(1, {subscribers}) as number;
insert into billing.products (stripe_product_id, livemode, name) values ('prod_bench', false, 'Pro');
insert into billing.plans (stripe_price_id, stripe_product_id, recurring_interval, monthly_credits)
values ('price_1MoBy5LkdIwHu7ixZhnattbh', 'prod_bench', 'year', {credits});
set session_replication_role = replica;
insert into billing.accounts (id) select account_id from subscribers order by number;
insert into billing.credit_balances (account_id, balance) select account_id, {credits} from subscribers order by number;
insert into billing.customers (stripe_customer_id, account_id, livemode)
select 'cus_' || short_id, account_id, false from subscribers order by number;
insert into billing.subscriptions (
    stripe_subscription_id, stripe_customer_id, account_id, livemode, status, billing_cycle_anchor, anchors, started_at,
    as_of
)
select
    'sub_' || long_id, 'cus_' || short_id, account_id, false, 'active', anchor, array[anchor], anchor,
    anchor
from subscribers order by number;
insert into billing.subscription_items (
    stripe_subscription_item_id, stripe_subscription_id, stripe_price_id, stripe_product_id, quantity,
    current_period_start, current_period_end
)
select
    'si_' || short_id, 'sub_' || long_id, stripe_price_id, 'prod_bench', 1, anchor, anchor + interval '1 year'
from subscribers order by number;
insert into billing.invoices (
    stripe_invoice_id, stripe_customer_id, account_id, stripe_subscription_id, livemode, status, currency, subtotal,
    total, amount_due, amount_paid, invoiced_at, paid_at, as_of
)
select
    'in_' || long_id, 'cus_' || short_id, account_id, 'sub_' || long_id, false, 'paid', 'usd', 29000,
    29000, 29000, 29000, anchor, anchor, anchor
from subscribers order by number;
insert into billing.invoice_lines (
    stripe_line_id, stripe_invoice_id, stripe_subscription_id, stripe_subscription_item_id, stripe_price_id, amount,
    discount, quantity, is_proration, period_start, period_end
)
select
    'il_' || long_id, 'in_' || long_id, 'sub_' || long_id, 'si_' || short_id, stripe_price_id, 29000,
    0, 1, false, anchor, anchor + interval '1 year'
from subscribers order by number;
insert into billing.credit_schedules (
    stripe_line_id, account_id, stripe_subscription_id, stripe_subscription_item_id, stripe_invoice_id, stripe_price_id,
    gives_back, is_change, is_free, is_plain, quantity, period_start, period_end, anchor, terms_from, paid_at, ends_at,
    next_slot_at
)
select
    'il_' || long_id, account_id, 'sub_' || long_id, 'si_' || short_id, 'in_' || long_id, stripe_price_id,
    false, false, false, true, 1, anchor, anchor + interval '1 year', anchor, anchor, anchor,
    anchor + interval '1 year', anchor + interval '1 month'
from subscribers order by number;
insert into billing.credit_entries (
    account_id, kind, amount, balance_after, source, reference_id, description, key_space, idempotency_key, occurred_at
)
select
    account_id, 'grant', {credits}, {credits}, 'stripe.monthly_allocation', 'sub_' || long_id,
    'Monthly subscription credits for Pro', 'stripe',
    'monthly:si_' || short_id || ':' || to_char(anchor, 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), anchor
from subscribers order by number;
insert into billing.credit_grants (
    account_id, entry_id, amount, remaining, effective_at, source, reference_id, key_space, idempotency_key,
    stripe_invoice_id, stripe_subscription_item_id, stripe_price_id
)
select
    account_id, number, {credits}, {credits}, anchor, 'stripe.monthly_allocation', 'sub_' || long_id, 'stripe',
    'monthly:si_' || short_id || ':' || to_char(anchor, 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
    'in_' || long_id, 'si_' || short_id, stripe_price_id
from subscribers order by number;
drop table subscribers;
set session_replication_role = origin;
"""
_EVERY_TABLE = """
select format('%I.%I', nspname, relname) from pg_class join pg_namespace on pg_namespace.oid = relnamespace
where relkind = 'r' and nspname in ('billing', 'pgmq')
"""
_TABLES = (
    "billing.credit_balances",
    "billing.credit_entries",
    "billing.credit_grants",
    "billing.credit_consumptions",
    "billing.credit_schedules",
    "billing.subscriptions",
    "billing.subscription_items",
    "billing.invoices",
    "billing.invoice_lines",
    "billing.stripe_events",
)


def account_id(number: int) -> UUID:
    return UUID(md5(f"{number}".encode()).hexdigest())


def user_id(number: int) -> UUID:
    """Owner of the account of that number, where accounts have owners."""
    return UUID(md5(f"user {number}".encode()).hexdigest())


def open_accounts(server: Postgres, template: str, accounts: int) -> None:
    """A template of so many users, with an account and an inexhaustible grant each."""
    with _migrated(server, template) as conn:
        conn.execute(_SIGN_UP.format(accounts=accounts))
        conn.execute(_GRANT)
        conn.execute("vacuum analyze")


def owe_expiries(server: Postgres, template: str, accounts: int, lots: int) -> None:
    """A template of accounts with so many lots of 100 credits each, all due. Ids of lots: by lot, then by account."""
    with _migrated(server, template) as conn:
        conn.execute(_DUE_LOTS.format(accounts=accounts, lots=lots))
        conn.execute("vacuum analyze")


def owe_slots(server: Postgres, template: str, subscribers: int) -> None:
    """A template of so many subscribers, with one monthly slot of MONTHLY_CREDITS each that is due."""
    with _migrated(server, template) as conn:
        conn.execute(_DUE_SLOTS.format(subscribers=subscribers, credits=MONTHLY_CREDITS))
        conn.execute("vacuum analyze")


def make_bare(conn: psycopg.Connection) -> None:
    """Leave of the tables all that Postgres itself does for a row: indexes, checks and foreign keys, but no trigger.

    A trigger runs the product's code. As superuser.
    """
    for table in _TABLES:
        conn.execute(f"alter table {table} disable trigger user")


def rows_by_table(conn: psycopg.Connection) -> dict[str, int]:
    """How many rows each table of the product and of its queue has, so that two sides can be compared."""
    tables = conn.execute(_EVERY_TABLE).fetchall()
    counts = "union all ".join(f"select '{name}', count(*) from {name} " for (name,) in tables)
    return dict(conn.execute(counts).fetchall())


def check(conn: psycopg.Connection, kind: str, entries: int, *, bare: bool) -> None:
    """A figure counts only if all of the work was done, and the product's only if the ledger adds up too."""
    found = conn.execute("select count(*) from billing.credit_entries where kind = %s", [kind]).fetchone()
    assert found == (entries,), f"{found} entries of {kind}, not {entries}"
    if not bare:
        # All of them: for the first few Postgres would plan nested loops, and go through them all to find none.
        assert conn.execute("select * from billing.ledger_discrepancies").fetchall() == []


def _migrated(server: Postgres, name: str) -> psycopg.Connection:
    create_database(server, name)
    migrate(server.url(name), migrations_directory())
    return psycopg.connect(server.admin_url(name), autocommit=True)
