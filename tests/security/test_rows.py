"""What each reader sees: users their own accounts and their teams', visitors the plans on sale, nothing else."""

import json
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg import errors

from tests.security.inventory import Connection
from tests.sql.calls import (
    JANUARY,
    call,
    grant,
    item,
    line,
    link,
    spend,
    sync_invoice,
    sync_payment,
    sync_price,
    sync_product,
    sync_subscription,
)
from tests.sql.work import hold_work, per_second, spend_work
from tests.support import Database, account_of, as_anon, as_role, as_user, create_user

# Relation that a user reads → the column that says whose a row is.
OWN_ROWS = {
    "billing.accounts": "id",
    "billing.account_members": "account_id",
    "billing.team_invitations": "account_id",
    "billing.customers": "account_id",
    "billing.subscriptions": "account_id",
    "billing.subscription_items": "stripe_subscription_id",
    "billing.invoices": "account_id",
    "billing.payments": "account_id",
    "billing.credit_balances": "account_id",
    "billing.credit_entries": "account_id",
    "billing.credit_grants": "account_id",
    "billing.credit_holds": "account_id",
    "billing.credit_hold_lots": "hold_id",
    "billing.budgets": "account_id",
    "billing.work_holds": "hold_id",
    "billing.work_charges": "account_id",
    "public.work_charges": "account_id",
    "billing.recharge_settings": "account_id",
    "billing.recharges": "account_id",
    "billing.overages": "account_id",
    "public.billing_overages": "account_id",
    "public.billing_account": "account_id",
    "public.billing_entitlements": "account_id",
    "public.credit_balance": "account_id",
    "public.credit_history": "account_id",
    "public.budgets": "account_id",
    "public.billing_subscription": "account_id",
    "public.team_invitations": "account_id",
}
# What only owners and administrators see of a team: e-mail addresses, invoices, payments and cards that are charged.
OF_MANAGERS = {
    "billing.team_invitations",
    "public.team_invitations",
    "billing.customers",
    "billing.invoices",
    "billing.payments",
    "billing.recharge_settings",
    "billing.recharges",
    "billing.overages",
    "public.billing_overages",
}
FOR_EVERYBODY = {
    "billing.plans",
    "billing.products",
    "billing.credit_packs",
    "public.billing_plans",
    "public.billing_packs",
    "billing.operation_prices",
    "public.billing_operations",
}


def customer_with_everything(database: Database, conn: Connection, name: str) -> tuple[UUID, UUID]:
    """A user with a row in every table that users read; returns user and account."""
    user_id = create_user(database, f"{name}@example.com")
    account_id = account_of(conn, user_id)
    customer = {"stripe_customer_id": f"cus_{name}"}
    subscription = {"stripe_subscription_id": f"sub_{name}"}
    link(conn, account_id, f"cus_{name}")
    sync_price(conn, metadata={"monthly_credits": "100", "features": '{"projects": true}'})
    sync_subscription(conn, **customer, **subscription, items=[item(f"si_{name}")])
    paid = line(f"il_{name}", stripe_subscription_item_id=f"si_{name}")
    sync_invoice(conn, **customer, **subscription, stripe_invoice_id=f"in_{name}", lines=[paid])
    sync_payment(conn, **customer, stripe_charge_id=f"ch_{name}")
    sync_price(conn, stripe_price_id="price_pack", type="one_time", metadata={"pack_credits": "500"})
    call(conn, "set_recharge", account_id=account_id, threshold=1000, stripe_price_id="price_pack")
    spend(conn, account_id, 1)
    conn.execute(
        "insert into billing.overages (account_id, stripe_subscription_id, stripe_customer_id, stripe_price_id, "
        "stripe_pack_price_id, period_start, period_end, counted_from, counted_until, credits, quantity, amount, "
        "currency, claimed_at) select %s, %s, %s, 'price_1', 'price_pack', now(), now(), now(), 'infinity', 1, 1, 1, "
        "'usd', now()",
        [account_id, f"sub_{name}", f"cus_{name}"],
    )
    conn.execute("insert into billing.account_members values (%s, %s, 'owner')", [account_id, user_id])
    conn.execute(
        "insert into billing.team_invitations (account_id, email, role, token_hash, expires_at) "
        "values (%s, 'new@example.com', 'member', %s, 'infinity')",
        [account_id, name.encode()],
    )
    call(conn, "set_budget", account_id=account_id, actor="agent:x", cap=1, period="day")
    per_second(conn)
    hold_work(conn, account_id, 1)
    spend_work(conn, account_id, 1)
    return user_id, account_id


def column(conn: Connection, relation: str, name: str) -> set[Any]:
    return {row[0] for row in conn.execute(f"select {name} from {relation}".encode()).fetchall()}


@pytest.mark.parametrize("project", ["database", "database_of_older_project"])
def test_each_user_sees_the_own_rows_of_every_table_and_no_others(
    request: pytest.FixtureRequest, project: str
) -> None:
    database: Database = request.getfixturevalue(project)
    with database.connect() as conn:
        users = {name: customer_with_everything(database, conn, name) for name in ["ada", "bob"]}
        for name, (user_id, account_id) in users.items():
            with as_user(conn, user_id) as session:
                (hold_id,) = column(session, "billing.credit_holds", "id")
                own = {"stripe_subscription_id": f"sub_{name}", "hold_id": hold_id}
                for relation, owner in OWN_ROWS.items():
                    expected = own.get(owner, account_id)
                    assert column(session, relation, owner) == {expected}, f"{name} in {relation}"


def test_every_table_that_users_read_is_looked_at_here(conn: Connection) -> None:
    rows = conn.execute(
        """
        select format('%s.%s', n.nspname, c.relname)
        from pg_class as c
        join pg_namespace as n on n.oid = c.relnamespace
        where n.nspname in ('billing', 'public') and c.relkind in ('r', 'v')
            and has_any_column_privilege('authenticated', c.oid, 'select')
        """
    ).fetchall()
    assert {relation for (relation,) in rows} == {*OWN_ROWS} | FOR_EVERYBODY


@pytest.mark.parametrize(
    "claims",
    [None, {}, {"role": "authenticated"}, {"sub": "6b1f0c52-0000-4000-8000-000000000000"}, {"sub": None}],
    ids=str,
)
def test_token_of_nobody_we_know_sees_no_rows(
    database: Database, conn: Connection, claims: dict[str, Any] | None
) -> None:
    customer_with_everything(database, conn, "ada")
    with as_role(conn, "authenticated") as session:
        if claims is not None:
            session.execute("select set_config('request.jwt.claims', %s, true)", [json.dumps(claims)])
        for relation, owner in OWN_ROWS.items():
            assert column(session, relation, owner) == set(), relation


def test_claims_that_users_write_themselves_open_nothing(database: Database, conn: Connection) -> None:
    ada, ada_account = customer_with_everything(database, conn, "ada")
    _, bob_account = customer_with_everything(database, conn, "bob")
    forged = {"account_id": str(bob_account), "role": "service_role"}
    with as_user(conn, ada, user_metadata=forged, app_metadata=forged) as session:
        assert column(session, "public.credit_balance", "account_id") == {ada_account}


def put_on_sale(conn: Connection, name: str, *, product: dict[str, Any], price: dict[str, Any]) -> None:
    sync_product(conn, stripe_product_id=f"prod_{name}", name=name, **product)
    sync_price(conn, stripe_price_id=f"price_{name}", stripe_product_id=f"prod_{name}", **price)


@pytest.fixture
def catalogue(conn: Connection) -> Connection:
    """Plans on sale, withdrawn in both ways, and of the other mode."""
    put_on_sale(conn, "pro", product={}, price={"metadata": {"monthly_credits": "100"}})
    put_on_sale(conn, "old", product={}, price={"active": False})
    put_on_sale(conn, "gone", product={"active": False}, price={})
    put_on_sale(conn, "live", product={"livemode": True}, price={"livemode": True})
    put_on_sale(conn, "mixed", product={}, price={"livemode": True})
    return conn


def test_visitors_and_users_see_active_plans_of_this_mode(catalogue: Connection) -> None:
    with as_anon(catalogue) as session:
        assert column(session, "public.billing_plans", "name") == {"pro"}
        assert column(session, "public.billing_plans", "monthly_credits") == {100}
    with as_user(catalogue, uuid4()) as session:
        assert column(session, "public.billing_plans", "name") == {"pro"}


def test_users_see_active_packs_of_this_mode(catalogue: Connection) -> None:
    pack = {"type": "one_time", "metadata": {"pack_credits": "50"}}
    put_on_sale(catalogue, "fifty", product={}, price=pack)
    put_on_sale(catalogue, "former", product={}, price=pack | {"active": False})
    put_on_sale(catalogue, "live_fifty", product={"livemode": True}, price=pack | {"livemode": True})
    with as_user(catalogue, uuid4()) as session:
        assert column(session, "public.billing_packs", "name") == {"fifty"}
        assert column(session, "public.billing_packs", "pack_credits") == {50}


def test_live_installation_shows_live_plans(catalogue: Connection) -> None:
    catalogue.execute("update billing.settings set livemode = true")
    with as_anon(catalogue) as session:
        assert column(session, "public.billing_plans", "name") == {"live"}


@pytest.mark.parametrize("statement", ["metadata from billing.plans", "metadata from billing.products"])
def test_visitors_do_not_read_what_is_internal_to_a_plan(catalogue: Connection, statement: str) -> None:
    with pytest.raises(errors.InsufficientPrivilege), as_anon(catalogue) as session:
        session.execute(f"select {statement}".encode())


def test_visitors_see_no_accounts_and_no_balances(catalogue: Connection) -> None:
    for relation in OWN_ROWS:
        with pytest.raises(errors.InsufficientPrivilege), as_anon(catalogue) as session:
            session.execute(f"select from {relation}".encode())


@pytest.fixture
def team(conn: Connection) -> UUID:
    """A team account with 50 credits."""
    row = conn.execute(
        "insert into billing.accounts (kind, name) values ('team', 'A') returning id"
    ).fetchone()
    assert row is not None
    grant(conn, row[0], 50)
    return row[0]


@pytest.mark.parametrize("role", ["owner", "admin", "member"])
def test_member_reads_the_teams_balance_beside_the_own(
    database: Database, conn: Connection, team: UUID, role: str
) -> None:
    user_id = create_user(database)
    conn.execute("insert into billing.account_members values (%s, %s, %s)", [team, user_id, role])
    with as_user(conn, user_id) as session:
        rows = session.execute("select account_id, balance from public.credit_balance").fetchall()
        history = column(session, "public.credit_history", "account_id")
    assert dict(rows) == {team: 50, account_of(conn, user_id): 0}
    assert history == {team}


@pytest.mark.parametrize("role", ["owner", "admin", "member"])
def test_what_a_team_pays_is_shown_to_its_owners_and_administrators(
    database: Database, conn: Connection, role: str
) -> None:
    user_id, account_id = customer_with_everything(database, conn, "ada")
    conn.execute(
        "update billing.accounts set kind = 'team', name = 'A', owner_id = null where id = %s", [account_id]
    )
    conn.execute("update billing.account_members set role = %s", [role])
    with as_user(conn, user_id) as session:
        seen = {
            relation
            for relation, owner in OWN_ROWS.items()
            if (rows := column(session, relation, owner)) and (owner != "account_id" or account_id in rows)
        }
    assert set(OWN_ROWS) - seen == (OF_MANAGERS if role == "member" else set())


def test_owner_of_a_team_reads_it_without_being_a_member(
    database: Database, conn: Connection, team: UUID
) -> None:
    user_id = create_user(database)
    conn.execute("update billing.accounts set owner_id = %s where id = %s", [user_id, team])
    with as_user(conn, user_id) as session:
        assert team in column(session, "public.credit_balance", "account_id")


def test_members_see_each_other_and_no_other_team(database: Database, conn: Connection, team: UUID) -> None:
    ada, bob, eve = (create_user(database) for _ in range(3))
    other = conn.execute("insert into billing.accounts (kind) values ('team') returning id").fetchone()
    assert other is not None
    members = [(team, ada), (team, bob), (other[0], bob), (other[0], eve)]
    for account_id, user_id in members:
        conn.execute("insert into billing.account_members values (%s, %s)", [account_id, user_id])
    seen = {}
    for user_id in [ada, bob, eve]:
        with as_user(conn, user_id) as session:
            rows = session.execute("select account_id, user_id from billing.account_members").fetchall()
            seen[user_id] = set(rows)
    assert seen == {ada: {*members[:2]}, bob: {*members}, eve: {*members[2:]}}


def test_former_member_sees_the_team_no_more(database: Database, conn: Connection, team: UUID) -> None:
    user_id = create_user(database)
    conn.execute("insert into billing.account_members values (%s, %s)", [team, user_id])
    conn.execute("delete from billing.account_members")
    with as_user(conn, user_id) as session:
        assert column(session, "public.credit_balance", "account_id") == {account_of(conn, user_id)}


def test_user_sees_a_subscription_with_its_items(database: Database, conn: Connection) -> None:
    user_id, account_id = customer_with_everything(database, conn, "ada")
    with as_user(conn, user_id) as session:
        row = session.execute(
            "select account_id, status, stripe_price_id, quantity, current_period_start "
            "from public.billing_subscription"
        ).fetchone()
    assert row == (account_id, "active", "price_1", 1, JANUARY)
