"""Features of plans as an app asks for them: in its own policies, its own functions, and through the Data API."""

import re
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg import Error, errors, sql

from tests.security.inventory import Connection
from tests.security.test_plans_of_queries import plan_nodes
from tests.sql.calls import (
    FEBRUARY,
    SECOND,
    answer,
    call,
    fetch,
    item,
    link,
    sync_price,
    sync_product,
    sync_subscription,
    value,
)
from tests.support import Database, account_of, as_anon, as_role, as_user, create_user

DOCUMENT = Path(__file__).parents[2] / "docs" / "how-to" / "features.md"
SUBSCRIBERS = 10_000

# An app's own table, and the one line that guards it.
APP = """
    create table public.projects (id bigint generated always as identity primary key, account_id uuid, name text);
    alter table public.projects enable row level security;
    grant select, insert on public.projects to authenticated;
    create policy "everybody reads" on public.projects for select to authenticated using (true);
    create policy "only pro plans" on public.projects for insert to authenticated
    with check ((select billing.has_feature('projects')));
"""


@pytest.fixture
def app(conn: Connection) -> Connection:
    """A plan with features, and an app with a table of its own."""
    sync_product(conn)
    declare(conn, '{"projects": true, "seats": 5}')
    conn.execute(APP)
    return conn


@pytest.fixture
def user(database: Database) -> UUID:
    return create_user(database)


@pytest.fixture
def team(conn: Connection) -> UUID:
    return value(conn, "insert into billing.accounts (kind, name) values ('team', 'A') returning id")


def declare(conn: Connection, features: str, **more: Any) -> None:
    """A price declares features, as of a second later each time."""
    as_of = value(conn, "select max(as_of) from billing.plans") or FEBRUARY
    assert sync_price(conn, metadata={"features": features}, as_of=as_of + SECOND, **more) == "applied"


def subscribe(
    conn: Connection, account_id: UUID, name: str = "ada", price: str = "price_1", **more: Any
) -> None:
    """An account subscribes by a customer of its own; `more` is the state of the subscription."""
    link(conn, account_id, f"cus_{name}")
    arguments = {"items": [item(f"si_{name}", stripe_price_id=price)]} | more
    customer = {"stripe_customer_id": f"cus_{name}", "stripe_subscription_id": f"sub_{name}"}
    assert sync_subscription(conn, **customer, **arguments) == "applied"


def inserts(conn: Connection, user_id: UUID) -> bool:
    """Whether the app's policy lets a user write."""
    try:
        with as_user(conn, user_id) as session:
            session.execute("insert into public.projects (name) values ('mine')")
    except errors.InsufficientPrivilege as refusal:
        if "row-level security" not in str(refusal):
            raise
        return False
    return True


def features(conn: Connection, user_id: UUID) -> dict[str, Any]:
    """What a user's accounts are granted, by the view."""
    with as_user(conn, user_id) as session:
        rows = session.execute("select feature, value from public.billing_entitlements").fetchall()
    return dict(rows)


def has_feature(conn: Connection, user_id: UUID, *arguments: Any, schema: str = "billing") -> bool:
    """The answer a user gets, the same from the function and from its twin."""
    places = ", ".join(["%s"] * len(arguments))
    with as_user(conn, user_id) as session:
        answers = {
            value(session, f"select {schema}.has_feature({places})", arguments)
            for schema in ("billing", "public")
        }
    (only,) = answers
    return only


@pytest.mark.parametrize(
    ("status", "is_granted"),
    [
        ("active", True),
        ("trialing", True),
        ("past_due", True),
        ("incomplete", False),
        ("incomplete_expired", False),
        ("unpaid", False),
        ("paused", False),
        ("canceled", False),
    ],
)
def test_the_status_decides(app: Connection, user: UUID, status: str, is_granted: bool) -> None:
    subscribe(app, account_of(app, user), status=status)
    assert inserts(app, user) is is_granted
    assert has_feature(app, user, "projects") is is_granted
    assert has_feature(app, user, "projects", account_of(app, user)) is is_granted
    assert features(app, user) == ({"projects": True, "seats": 5} if is_granted else {})


@pytest.mark.parametrize(
    ("status", "is_granted"), [("active", True), ("trialing", True), ("past_due", False), ("unpaid", False)]
)
def test_past_due_keeps_nothing_where_the_setting_says_so(
    app: Connection, user: UUID, status: str, is_granted: bool
) -> None:
    app.execute("update billing.settings set past_due_keeps_features = false")
    subscribe(app, account_of(app, user), status=status)
    assert inserts(app, user) is is_granted
    assert features(app, user).keys() == ({"projects", "seats"} if is_granted else set())


def test_features_go_and_come_back_with_the_status(app: Connection, user: UUID) -> None:
    account_id = account_of(app, user)
    subscribe(app, account_id)
    answers = []
    for seconds, status in enumerate(["past_due", "unpaid", "active", "canceled"], start=1):
        subscribe(app, account_id, status=status, as_of=FEBRUARY + seconds * SECOND)
        answers.append(inserts(app, user))
    assert answers == [True, False, True, False]


def test_pause_of_collection_leaves_the_features(app: Connection, user: UUID) -> None:
    subscribe(app, account_of(app, user), is_collection_paused=True)
    assert inserts(app, user)


def test_without_a_subscription_nothing_is_granted(app: Connection, user: UUID) -> None:
    assert not inserts(app, user)
    assert not has_feature(app, user, "projects")
    assert features(app, user) == {}


def test_archived_price_keeps_its_features_for_its_subscribers(app: Connection, user: UUID) -> None:
    subscribe(app, account_of(app, user))
    declare(app, '{"projects": true}', active=False)
    sync_product(app, active=False, as_of=FEBRUARY)
    with as_user(app, user) as session:
        assert fetch(session, "select * from public.billing_plans") == []
    assert inserts(app, user)
    assert features(app, user) == {"projects": True}


def test_change_of_the_price_reaches_those_who_subscribe_already(app: Connection, user: UUID) -> None:
    subscribe(app, account_of(app, user))
    declare(app, '{"exports": true}')
    assert features(app, user) == {"exports": True}
    assert not inserts(app, user)


@pytest.mark.parametrize("declared", ["false", "null", "0", "0.0", "-0"])
def test_false_null_and_zero_are_not_granted(app: Connection, user: UUID, declared: str) -> None:
    declare(app, f'{{"projects": {declared}, "seats": 5}}')
    subscribe(app, account_of(app, user))
    assert not inserts(app, user)
    assert not has_feature(app, user, "projects")
    assert not has_feature(app, user, "projects", account_of(app, user))
    assert features(app, user) == {"seats": 5}


@pytest.mark.parametrize("declared", ["true", "1", "-1", "0.5", '"basic"', '{"max": 3}', "[]"])
def test_any_other_value_is_granted(app: Connection, user: UUID, declared: str) -> None:
    declare(app, f'{{"projects": {declared}}}')
    subscribe(app, account_of(app, user))
    assert inserts(app, user)


@pytest.mark.parametrize("name", ["sso", "Projects", "", None])
def test_undeclared_feature_is_false_and_never_null(app: Connection, user: UUID, name: str | None) -> None:
    subscribe(app, account_of(app, user))
    assert has_feature(app, user, name) is False
    assert has_feature(app, user, name, account_of(app, user)) is False
    assert has_feature(app, user, "projects", None) is False


def test_any_subscription_of_an_account_grants(app: Connection, user: UUID) -> None:
    account_id = account_of(app, user)
    declare(app, '{"projects": false, "sso": true}', stripe_price_id="price_2")
    subscribe(app, account_id, "ada", "price_2")
    assert not inserts(app, user)
    addition = {"stripe_customer_id": "cus_ada", "stripe_subscription_id": "sub_more"}
    sync_subscription(app, **addition, items=[item("si_more")])
    assert inserts(app, user)
    with as_user(app, user) as session:
        rows = session.execute(
            "select account_id, feature, value, stripe_subscription_id, stripe_price_id "
            "from public.billing_entitlements order by feature"
        ).fetchall()
    assert rows == [
        (account_id, "projects", True, "sub_more", "price_1"),
        (account_id, "seats", 5, "sub_more", "price_1"),
        (account_id, "sso", True, "sub_ada", "price_2"),
    ]


def test_item_that_was_removed_grants_nothing_more(app: Connection, user: UUID) -> None:
    declare(app, '{"sso": true}', stripe_price_id="price_2")
    items = [item("si_1"), item("si_2", stripe_price_id="price_2")]
    subscribe(app, account_of(app, user), items=items)
    assert features(app, user).keys() == {"projects", "seats", "sso"}
    subscribe(app, account_of(app, user), items=items[1:], as_of=FEBRUARY)
    assert features(app, user).keys() == {"sso"}


def test_deleted_customer_has_no_features(app: Connection, user: UUID) -> None:
    """Also where the event that cancels the subscription was lost."""
    subscribe(app, account_of(app, user))
    deletion = {"livemode": False, "email": None, "name": None, "is_deleted": True}
    answer(app, "sync_customer", stripe_customer_id="cus_ada", as_of=FEBRUARY, **deletion)
    assert value(app, "select status from billing.subscriptions") == "active"
    assert not inserts(app, user)
    assert features(app, user) == {}


def test_subscription_of_the_other_mode_grants_nothing(app: Connection, user: UUID) -> None:
    """A test card buys nothing once the installation went live."""
    subscribe(app, account_of(app, user))
    app.execute("update billing.settings set livemode = true")
    assert not inserts(app, user)
    assert features(app, user) == {}


def test_subscription_of_a_customer_whom_nobody_has_linked_grants_nobody(app: Connection, user: UUID) -> None:
    sync_subscription(app)
    assert not inserts(app, user)
    assert features(app, user) == {}
    with as_role(app, "service_role") as session:
        assert fetch(session, "select * from public.billing_entitlements") == []
    link(app, account_of(app, user))
    assert inserts(app, user)


def test_another_user_has_none_of_it(database: Database, app: Connection, user: UUID) -> None:
    account_id = account_of(app, user)
    subscribe(app, account_id)
    eve = create_user(database)
    assert not inserts(app, eve)
    assert not has_feature(app, eve, "projects")
    assert not has_feature(app, eve, "projects", account_id)
    assert features(app, eve) == {}
    with as_user(app, eve) as session:
        assert fetch(session, "select * from billing.account_entitlements(%s)", [account_id]) == []


@pytest.mark.parametrize("role", ["owner", "admin", "member"])
def test_member_has_what_the_team_has(
    database: Database, app: Connection, user: UUID, team: UUID, role: str
) -> None:
    subscribe(app, team)
    assert not has_feature(app, user, "projects")
    assert not has_feature(app, user, "projects", team)
    app.execute("insert into billing.account_members values (%s, %s, %s)", [team, user, role])
    assert inserts(app, user)
    assert has_feature(app, user, "projects", team)
    assert not has_feature(app, user, "projects", account_of(app, user))
    assert not has_feature(app, create_user(database), "projects", team)
    app.execute("delete from billing.account_members")
    assert not inserts(app, user)
    assert not has_feature(app, user, "projects", team)


def test_row_of_a_team_is_written_by_its_members_if_the_team_has_the_feature(
    app: Connection, user: UUID, team: UUID
) -> None:
    """One's own plan is no help for a team that has none, nor the plan of a team that is not one's own."""
    account_id = account_of(app, user)
    strangers = value(app, "insert into billing.accounts (kind) values ('team') returning id")
    subscribe(app, account_id, "ada")
    subscribe(app, strangers, "bob")
    app.execute("insert into billing.account_members values (%s, %s)", [team, user])
    app.execute(
        'drop policy "only pro plans" on public.projects; '
        'create policy "only pro teams" on public.projects for insert to authenticated '
        "with check (billing.has_feature('projects', account_id))"
    )
    written = set()
    for target in [account_id, team, strangers, uuid4(), None]:
        try:
            with as_user(app, user) as session:
                session.execute("insert into public.projects (account_id) values (%s)", [target])
            written.add(target)
        except errors.InsufficientPrivilege:
            pass
    assert written == {account_id}


def test_visitor_can_neither_ask_nor_write(app: Connection, user: UUID) -> None:
    subscribe(app, account_of(app, user))
    for statement in [
        "select billing.has_feature('projects')",
        f"select billing.has_feature('projects', '{account_of(app, user)}')",
        "select public.has_feature('projects')",
        f"select public.has_feature('projects', '{account_of(app, user)}')",
        f"select billing.account_entitlements('{account_of(app, user)}')",
        "select from public.billing_entitlements",
        "insert into public.projects (name) values ('mine')",
    ]:
        with pytest.raises(errors.InsufficientPrivilege), as_anon(app) as session:
            session.execute(statement.encode())


def test_token_of_nobody_has_nothing(app: Connection, user: UUID) -> None:
    account_id = account_of(app, user)
    subscribe(app, account_id)
    with as_role(app, "authenticated") as session:
        assert not value(session, "select billing.has_feature('projects')")
        assert not value(session, "select billing.has_feature('projects', %s)", [account_id])
        assert fetch(session, "select * from public.billing_entitlements") == []


def test_the_server_sees_all_accounts_and_asks_about_any(
    database: Database, app: Connection, user: UUID, team: UUID
) -> None:
    account_id = account_of(app, user)
    subscribe(app, account_id, "ada")
    subscribe(app, team, "bob")
    other = account_of(app, create_user(database))
    with as_role(app, "service_role") as session:
        rows = session.execute("select account_id, feature from public.billing_entitlements").fetchall()
        answers = [
            value(session, f"select {schema}.has_feature('projects', %s)", [account])
            for schema in ("billing", "public")
            for account in (account_id, team, other)
        ]
        assert value(session, "select billing.has_feature('projects')") is False
    assert set(rows) == {(who, what) for who in (account_id, team) for what in ("projects", "seats")}
    assert answers == [True, True, False] * 2
    with database.connect("service_role") as session:
        assert value(session, "select billing.has_feature('projects', %s)", [team])
    assert value(app, "select billing.has_feature('projects', %s)", [team]), (
        "postgres itself, as in a cron job"
    )


def test_security_definer_function_of_the_app_asks_for_the_user_not_for_its_owner(
    database: Database, app: Connection, user: UUID
) -> None:
    account_id = account_of(app, user)
    subscribe(app, account_id)
    app.execute(
        "create function public.may(account_id uuid) returns text language sql stable security definer as "
        "$$ select format('%s %s %s', billing.has_feature('projects'), billing.has_feature('projects', account_id), "
        "(select count(*) from public.billing_entitlements)) $$"
    )
    answers = []
    for somebody in [user, create_user(database)]:
        with as_user(app, somebody) as session:
            answers.append(value(session, "select public.may(%s)", [account_id]))
    assert answers == ["t t 2", "f f 0"]


@pytest.fixture
def crowd(app: Connection, user: UUID) -> UUID:
    """The account of a user among many subscribers, with as many prices; the tables are analyzed."""
    subscribe(app, account_of(app, user))
    app.execute(
        """
        create temporary table crowd as select gen_random_uuid() as id, n from generate_series(1, %(n)s) as n;
        insert into billing.accounts (id, kind) select id, 'team' from crowd;
        insert into billing.customers (stripe_customer_id, account_id, livemode)
            select 'cus_' || n, id, false from crowd;
        insert into billing.plans (stripe_price_id, stripe_product_id, features)
            select 'price_many_' || n, 'prod_1', '{"projects": true, "sso": true}' from crowd;
        insert into billing.subscriptions (
            stripe_subscription_id, stripe_customer_id, account_id, livemode, status, billing_cycle_anchor,
            started_at, as_of
        )
            select 'sub_' || n, 'cus_' || n, id, false, 'active', now(), now(), now() from crowd;
        insert into billing.subscription_items (
            stripe_subscription_item_id, stripe_subscription_id, stripe_price_id, current_period_start,
            current_period_end
        )
            select 'si_many_' || n, 'sub_' || n, 'price_many_' || n, now(), now() from crowd;
        """.replace("%(n)s", str(SUBSCRIBERS)).encode()
    )
    app.execute(
        "analyze billing.accounts, billing.customers, billing.plans, billing.subscriptions, "
        "billing.subscription_items"
    )
    account_id = account_of(app, user)
    # So that the figures of the next transaction are its own.
    app.execute("select pg_stat_force_next_flush()")
    return account_id


def scanned(session: Connection) -> dict[str, int]:
    """Tables of ours that this transaction has read from one end to the other → how often; also inside functions."""
    rows = session.execute(
        "select relname, seq_scan from pg_stat_xact_user_tables where schemaname = 'billing' and seq_scan > 0"
    ).fetchall()
    return dict(rows)


QUESTIONS = [
    "select billing.has_feature('projects')",
    "select billing.has_feature('projects', '{account}')",
    "select * from billing.account_entitlements('{account}')",
    "select * from public.billing_entitlements where feature = 'projects'",
    "insert into public.projects (name) values ('mine')",
]


def test_user_asks_by_index_among_many_subscribers(app: Connection, user: UUID, crowd: UUID) -> None:
    for query in QUESTIONS:
        with as_user(app, user) as session:
            nodes = plan_nodes(session, query.format(account=crowd))
            # One row of settings; nothing that grows.
            assert scanned(session).keys() <= {"settings"}, query
        assert [node for node in nodes if node["Node Type"] == "Seq Scan"] == [], query


def test_server_asks_about_one_account_by_index_among_many(app: Connection, crowd: UUID) -> None:
    with as_role(app, "service_role") as session:
        for query in [
            QUESTIONS[1],
            f"select * from public.billing_entitlements where account_id = '{crowd}'",
        ]:
            nodes = plan_nodes(session, query.format(account=crowd))
            assert [node for node in nodes if node["Node Type"] == "Seq Scan"] == []
        assert scanned(session).keys() <= {"settings"}


def test_the_rules_are_worked_out_by_index(app: Connection, crowd: UUID) -> None:
    """The plan inside the function, which EXPLAIN of a call does not show."""
    body = value(
        app, "select prosrc from pg_proc where oid = 'billing.account_entitlements(uuid)'::regprocedure"
    )
    query = body.split("return query")[1].split(";")[0]
    nodes = plan_nodes(app, query.replace("account_entitlements.account_id", f"'{crowd}'::uuid"))
    scans = {node["Relation Name"]: node.get("Index Name") for node in nodes if "Relation Name" in node}
    assert scans.pop("settings") is None
    # my_account_ids and who sees all are asked in functions of their own.
    assert scans == {
        "subscriptions": "subscriptions_account",
        "customers": "customers_stripe_customer_id_key",
        "subscription_items": "subscription_items_subscription",
        "plans": "plans_pkey",
    }
    assert sum(node.get("Rows Removed by Filter", 0) for node in nodes) == 0


def test_the_policy_asks_once_for_a_statement(app: Connection, user: UUID, crowd: UUID) -> None:
    rows = "insert into public.projects (name) select 'mine' from generate_series(1, 500)"
    with as_user(app, user) as session:
        nodes = plan_nodes(session, rows)
        assert scanned(session) == {"settings": 1}
    (asked,) = [node for node in nodes if node.get("Parent Relationship") == "InitPlan"]
    # Older versions name what it returns, too.
    assert (asked["Subplan Name"].removesuffix(" (returns $0)"), asked["Actual Loops"]) == ("InitPlan 1", 1)
    assert value(app, "select count(*) from public.projects") == 500


def documented(language: str) -> list[str]:
    """The document's blocks of a language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)


@pytest.fixture
def documented_app(conn: Connection) -> Connection:
    """A project in which everything that the document says has been run, in its order; the plan is the document's."""
    sync_product(conn)
    (features_json,) = documented("json")
    declare(conn, features_json)
    blocks = documented("sql")
    assert len(blocks) >= 5
    for block in blocks:
        conn.execute(block.encode())
    return conn


def test_documented_setting_takes_features_away_when_a_renewal_fails(
    documented_app: Connection, user: UUID
) -> None:
    subscribe(documented_app, account_of(documented_app, user), status="past_due")
    assert features(documented_app, user) == {}


def test_documented_policy_lets_a_pro_user_write_own_projects_only(
    database: Database, documented_app: Connection, user: UUID
) -> None:
    free = create_user(database)
    assert not inserts(documented_app, user)
    subscribe(documented_app, account_of(documented_app, user))
    assert inserts(documented_app, user)
    assert not inserts(documented_app, free)
    with pytest.raises(errors.InsufficientPrivilege), as_user(documented_app, user) as session:
        session.execute("insert into public.projects (owner_id, name) values (%s, 'theirs')", [free])
    with as_user(documented_app, free) as session:
        assert fetch(session, "select * from public.projects") == []


def test_documented_function_refuses_and_creates(documented_app: Connection, user: UUID) -> None:
    with pytest.raises(Error) as refusal, as_user(documented_app, user) as session:
        call(session, "public.create_project", name="mine")
    assert refusal.value.sqlstate == "PT402"
    subscribe(documented_app, account_of(documented_app, user))
    with as_user(documented_app, user) as session:
        assert call(session, "public.create_project", name="mine")["owner_id"] == user
        (limit,) = [block for block in documented("sql") if block.startswith("select")]
        assert value(session, limit) == 25


def test_documented_policies_on_a_teams_rows(
    database: Database, documented_app: Connection, user: UUID, team: UUID
) -> None:
    declare(documented_app, '{"documents": true}', stripe_price_id="price_team")
    documented_app.execute("insert into billing.account_members values (%s, %s)", [team, user])
    write = sql.SQL("insert into public.documents (account_id, body) values ({}, 'text')").format(str(team))
    with pytest.raises(errors.InsufficientPrivilege), as_user(documented_app, user) as session:
        session.execute(write)
    subscribe(documented_app, team, price="price_team")
    with as_user(documented_app, user) as session:
        session.execute(write)
        assert value(session, "select count(*) from public.documents") == 1
        nodes = plan_nodes(session, "select * from public.documents")
    assert [node["Actual Loops"] for node in nodes if node.get("Parent Relationship") == "InitPlan"][-1] == 1
    with as_user(documented_app, create_user(database)) as session:
        assert value(session, "select count(*) from public.documents") == 0
    declare(documented_app, '{"exports": true}', stripe_price_id="price_team")
    with as_user(documented_app, user) as session:
        assert value(session, "select count(*) from public.documents") == 0


def test_documented_calls_of_the_data_api_name_what_there_is(documented_app: Connection) -> None:
    """Columns, filters and arguments, as supabase-js sends them."""
    code = "\n".join(documented("js"))
    for columns in re.findall(r'from\("billing_entitlements"\)\.select\("([^"]+)"\)', code):
        documented_app.execute(f"select {columns} from public.billing_entitlements".encode())
    for filtered in re.findall(r'\.eq\("(\w+)"', code):
        documented_app.execute(f"select {filtered} from public.billing_entitlements".encode())
    calls = re.findall(r'rpc\("has_feature", \{([^}]+)\}', code)
    assert len(calls) == 3
    for arguments in calls:
        names = re.findall(r"(\w+):", arguments)
        placed = ", ".join(f"{name} => null" for name in names)
        assert value(documented_app, f"select public.has_feature({placed})") is False
