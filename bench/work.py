"""Held work that is settled by its usage → settlements a second, against captures of the same holds."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from bench.clone import copy
from bench.ledger import check, open_accounts
from bench.measure import Comparison, Suite
from bench.pgbench import run
from devstack.postgres import Postgres

ACCOUNTS = 2_000
CLIENTS = 8
HOLDS_EACH = 2_000  # of each client: more than it settles in its time
TEMPLATE = "work"
ROUNDS_MAX = 3

COMPARISONS = (
    Comparison("settle_work", floor="capture_hold", unit="spends/s", wanted=0.80),
    Comparison("hold_work", floor="hold_credits", unit="spends/s", wanted=0.60),
    Comparison("spend_work", floor="spend_credits", unit="spends/s", wanted=0.45),
)

_PRICE = """
select billing.set_operation_price(
    operation => 'chat', markup => 20,
    rates => '{"input": {"credits": 0.3, "per": 1000}, "cached": {"credits": 0.03, "per": 1000},
               "output": {"credits": 1.2, "per": 1000}}'
)
"""
# Every hold is of ten credits. Each client has holds of its own, found by their number.
_HOLDS = f"""
create table public.bench_holds (client integer, number integer, id uuid, primary key (client, number));
insert into public.bench_holds
select client, number, (billing.hold_work(
    account_id => md5((1 + (client * {HOLDS_EACH} + number) % {ACCOUNTS})::text)::uuid, operation => 'chat',
    quantities => '{{"input": 10000, "output": 4444}}', idempotency_key => 'hold ' || client || ' ' || number,
    expires_in => '1 day'
)).id
from generate_series(0, {CLIENTS - 1}) as client cross join generate_series(1, {HOLDS_EACH}) as number;
grant select on public.bench_holds to public;
"""
_HOLD = "(select id from public.bench_holds where client = :client_id and number = :number)"
_ACCOUNT = f"\\set account random(1, {ACCOUNTS})\n"
_SCRIPTS = {
    "settle_work": f"""
select id, charged from billing.settle_work(
    hold_id => {_HOLD}, usage => '{{"input": 9000, "output": 4000}}',
    idempotency_key => 'settled ' || :client_id || ' ' || :number
);
""",
    "capture_hold": f"""
select id, amount from billing.capture_hold(
    hold_id => {_HOLD}, amount => 9, idempotency_key => 'settled ' || :client_id || ' ' || :number,
    release_rest => true
);
""",
    "hold_work": f"""{_ACCOUNT}
select id, amount from billing.hold_work(
    account_id => md5(:account::text)::uuid, operation => 'chat', quantities => '{{"input": 10000, "output": 4444}}',
    idempotency_key => :client_id || '-' || :number
);
""",
    "hold_credits": f"""{_ACCOUNT}
select id, amount from billing.hold_credits(
    account_id => md5(:account::text)::uuid, amount => 10, idempotency_key => :client_id || '-' || :number,
    feature => 'chat'
);
""",
    "spend_work": f"""{_ACCOUNT}
select id, charged from billing.spend_work(
    account_id => md5(:account::text)::uuid, operation => 'chat', quantities => '{{"input": 9000, "output": 4000}}',
    idempotency_key => :client_id || '-' || :number
);
""",
    "spend_credits": f"""{_ACCOUNT}
select id, amount from billing.spend_credits(
    account_id => md5(:account::text)::uuid, amount => 9, idempotency_key => :client_id || '-' || :number,
    feature => 'chat'
);
""",
}
_KINDS = {
    "settle_work": "capture",
    "capture_hold": "capture",
    "spend_work": "spend",
    "spend_credits": "spend",
}


@contextmanager
def work(server: Postgres) -> Iterator[Suite]:
    """Each side works on a copy of the same ledger, with the same holds."""
    open_accounts(server, TEMPLATE, ACCOUNTS)
    with psycopg.connect(server.admin_url(TEMPLATE), autocommit=True) as conn:
        conn.execute(_PRICE)
        conn.execute(_HOLDS)
        conn.execute("vacuum analyze")
    sides = {name: lambda name=name: _side(server, name) for name in _SCRIPTS}
    yield Suite(sides, COMPARISONS, rounds_max=ROUNDS_MAX)


def _side(server: Postgres, name: str) -> float:
    with copy(server, TEMPLATE) as database:
        figure, count = run(server, database, _SCRIPTS[name], CLIENTS)
        if name in _KINDS:
            with psycopg.connect(server.admin_url(database)) as conn:
                check(conn, _KINDS[name], count, bare=False)
    return figure
