"""A running Postgres → a database of the size that is asked for: accounts, their entries, events.

Each account has a year's plan and nine spends of this month's credits, and its next month is due. Account 1 has as many
spends more as there are accounts, all of one lot. Every account has five events of the last year, and the bodies of the
last month's are kept.
"""

from collections.abc import Callable

import psycopg

from bench.ledger import MONTHLY_CREDITS, owe_slots
from devstack.postgres import Postgres

SPENDS = 9
SPENT = 10
EVENTS = 5
BODIES_MAX = 100_000

_USERS = """
set session_replication_role = replica;
insert into auth.users (id, email, email_confirmed_at)
select md5('user ' || number)::uuid, number || '@example.com', now() from generate_series(1, {accounts}) as number;
update billing.accounts set owner_id = md5('user ' || number)::uuid
from generate_series(1, {accounts}) as number where accounts.id = md5(number::text)::uuid;
insert into billing.account_members (account_id, user_id, role)
select md5(number::text)::uuid, md5('user ' || number)::uuid, 'owner' from generate_series(1, {accounts}) as number;
"""
# One spend of everybody; ids follow the last.
_SPEND = """
set session_replication_role = replica;
insert into billing.credit_entries (
    id, account_id, kind, amount, balance_after, source, description, feature, key_space, idempotency_key, occurred_at
)
overriding system value
select
    {round} * {accounts} + number, md5(number::text)::uuid, 'spend', -{spent}, {credits} - {round} * {spent}, 'app',
    'A job', 'jobs', 'caller', 'job ' || {round}, now() - interval '1 day' * (30 - 3 * {round})
from generate_series(1, {accounts}) as number;
insert into billing.credit_consumptions (entry_id, grant_id, amount)
select {round} * {accounts} + lots.entry_id, lots.id, {spent} from billing.credit_grants as lots;
"""
_BALANCES = """
set session_replication_role = replica;
update billing.credit_grants set remaining = amount - {spends} * {spent};
update billing.credit_balances set balance = balance - {spends} * {spent};
"""
# Of one account: a lot of its own, spent one by one.
_LARGE_ACCOUNT = """
set session_replication_role = replica;
insert into billing.credit_entries
    (id, account_id, kind, amount, balance_after, source, key_space, idempotency_key, occurred_at)
overriding system value
select
    {first}, account_id, 'grant', 2 * {accounts}, balance + 2 * {accounts}, 'app', 'caller', 'large',
    now() - interval '2 days'
from billing.credit_balances where account_id = md5('1')::uuid;
insert into billing.credit_grants
    (id, account_id, entry_id, amount, remaining, effective_at, source, key_space, idempotency_key)
overriding system value
select
    {accounts} + 1, account_id, {first}, 2 * {accounts}, {accounts}, now() - interval '2 days', 'app', 'caller', 'large'
from billing.credit_balances where account_id = md5('1')::uuid;
insert into billing.credit_entries (
    id, account_id, kind, amount, balance_after, source, description, feature, key_space, idempotency_key, occurred_at
)
overriding system value
select
    {first} + number, account_id, 'spend', -1, balance + 2 * {accounts} - number, 'app', 'A job', 'jobs', 'caller',
    'large ' || number, now() - interval '1 day' + interval '1 day' * number / {accounts}
from billing.credit_balances cross join generate_series(1, {accounts}) as number where account_id = md5('1')::uuid;
insert into billing.credit_consumptions (entry_id, grant_id, amount)
select {first} + number, {accounts} + 1, 1 from generate_series(1, {accounts}) as number;
update billing.credit_balances set balance = balance + {accounts} where account_id = md5('1')::uuid;
select setval(pg_get_serial_sequence('billing.credit_entries', 'id'), {first} + {accounts});
select setval(pg_get_serial_sequence('billing.credit_grants', 'id'), {accounts} + 1);
"""
_EVENTS = """
set session_replication_role = replica;
insert into billing.stripe_events
    (stripe_event_id, type, api_version, livemode, payload, status, created_at, received_at, settled_at)
select
    'evt_' || md5('event {round} ' || number), 'invoice.paid', '2026-10-28.endive', false, '', 'applied', at, at, at
from generate_series(1, {accounts}) as number cross join lateral (
    select now() - interval '1 day' * 73 * ({events} - {round} + 1 - number / {accounts}.0) as at
) as moment;
"""
# About as long as Stripe's, with the ids by which a person's events are found.
_BODIES = """
set session_replication_role = replica;
update billing.stripe_events
set payload = jsonb_build_object(
    'id', stripe_event_id, 'object', 'event', 'data', jsonb_build_object('object', jsonb_build_object(
        'id', 'in_' || md5(stripe_event_id), 'customer', 'cus_' || md5(stripe_event_id), 'metadata', (
            select jsonb_object_agg('field_' || number, md5(stripe_event_id || number))
            from generate_series(1, 60) as number
        )
    ))
)::text
where stripe_event_id in (
    select stripe_event_id from billing.stripe_events where received_at > now() - interval '30 days'
    order by received_at desc limit {bodies}
);
update billing.event_pruning set pruned_until = now() - interval '90 days';
"""


def load(server: Postgres, name: str, accounts: int, advance: Callable[[str], None]) -> None:
    """Make it; `advance` hears what comes next. All of it is as the product would have left it."""
    advance("accounts and subscriptions")
    owe_slots(server, name, accounts)
    values = {
        "accounts": accounts,
        "spends": SPENDS,
        "spent": SPENT,
        "credits": MONTHLY_CREDITS,
        "events": EVENTS,
    }
    with psycopg.connect(server.admin_url(name), autocommit=True) as conn:
        conn.execute(_USERS.format(**values))
        for number in range(1, SPENDS + 1):
            advance(f"spends {number} of {SPENDS}")
            conn.execute(_SPEND.format(**values, round=number))
        conn.execute(_BALANCES.format(**values))
        advance("the large account")
        conn.execute(_LARGE_ACCOUNT.format(**values, first=(SPENDS + 1) * accounts + 1))
        for number in range(1, EVENTS + 1):
            advance(f"events {number} of {EVENTS}")
            conn.execute(_EVENTS.format(**values, round=number))
        advance("bodies of events")
        conn.execute(_BODIES.format(bodies=min(BODIES_MAX, accounts)))
        advance("vacuum")
        conn.execute("vacuum analyze")
