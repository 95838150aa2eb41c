"""Free credits without a subscription: once for each account, person and period, at sign-up and by the clock."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.sql.accounts import close, freeze
from tests.sql.calls import (
    FEBRUARY,
    JANUARY,
    Connection,
    Row,
    balance,
    call,
    entries,
    fetch,
    grant,
    lots,
    refused,
    spend,
    sync_price,
    sync_product,
    value,
)
from tests.sql.free_credits import DAY, NOON, World
from tests.sql.people import Person, review
from tests.sql.races import at_once
from tests.support import Database, account_of, create_user


@pytest.fixture
def world(database: Database, app: Connection, admin: Connection) -> World:
    return World(database, app, admin)


@pytest.fixture
def plans(worker: Connection) -> None:
    sync_product(worker)
    sync_price(worker, metadata={"monthly_credits": "100"})


# At sign-up, and by the clock


def test_a_new_account_has_its_credits_as_soon_as_it_signs_up(world: World) -> None:
    world.rule("welcome", 50, "once", description="Welcome")
    world.rule("daily", 10)
    account = world.sign_up()
    assert sorted((lot["source"], lot["reference_id"], lot["amount"]) for lot in lots(world.admin, account)) == [
        ("free", "daily", 10), ("free", "welcome", 50),
    ]  # fmt: skip
    told = fetch(
        world.admin,
        "select idempotency_key, description, kind, key_space from billing.credit_entries where account_id = %s "
        "order by idempotency_key",
        [account],
    )
    assert [(entry["idempotency_key"], entry["description"]) for entry in told] == [
        (f"free_credits:daily:{account}:2030-06-15", "Free credits"),
        (f"free_credits:welcome:{account}:once", "Welcome"),
    ]
    assert world.discrepancies() == []


def test_existing_accounts_have_the_running_period_when_a_rule_is_added(world: World) -> None:
    account = world.sign_up()
    world.rule()
    assert world.balance(account) == 0
    assert world.allocate() == {"accounts": 1, "slots_granted": 1, "credits_granted": 10}
    assert world.allocate() == {"accounts": 0, "slots_granted": 0, "credits_granted": 0}
    assert world.balance(account) == 10
    assert world.discrepancies() == []


@pytest.mark.parametrize(
    ("every", "next_period", "end"),
    [
        ("day", NOON + timedelta(hours=12), datetime(2030, 6, 16, tzinfo=UTC)),
        ("week", datetime(2030, 6, 17, tzinfo=UTC), datetime(2030, 6, 17, tzinfo=UTC)),
        ("month", datetime(2030, 7, 1, tzinfo=UTC), datetime(2030, 7, 1, tzinfo=UTC)),
    ],
)
def test_each_period_grants_and_expires_at_its_end(
    world: World, every: str, next_period: datetime, end: datetime
) -> None:
    world.rule("allowance", 10, every)
    account = world.sign_up()
    spend(world.app, account, 4)
    assert [lot["expires_at"] for lot in lots(world.admin, account)] == [end]
    world.go_to(next_period - timedelta(minutes=1))
    world.allocate()
    assert world.balance(account) == 6
    world.go_to(next_period + timedelta(seconds=1))
    world.allocate()
    assert entries(world.admin, account) == [("grant", 10), ("spend", -4), ("expiry", -6), ("grant", 10)]
    assert world.discrepancies() == []


@pytest.mark.parametrize(
    ("expires", "after"), [("never", 20), ("30 days", 20), ("36 days", 20), ("period_end", 10)]
)
def test_credits_stay_as_long_as_the_rule_says(world: World, expires: str, after: int) -> None:
    world.rule("allowance", 10, "month", expires=expires)
    account = world.sign_up()
    world.go_to(datetime(2030, 7, 2, tzinfo=UTC))
    world.allocate()
    assert world.balance(account) == after
    ends = {"never": None, "30 days": NOON + 30 * DAY, "36 days": NOON + 36 * DAY}
    if expires in ends:
        first = lots(world.admin, account)[0]["expires_at"]
        assert first == ends[expires] or first - ends[expires] < timedelta(minutes=1)
    assert world.discrepancies() == []


def test_a_late_worker_grants_the_running_period_only(world: World) -> None:
    world.rule(expires="never")
    account = world.sign_up()
    world.go_to(NOON + 30 * DAY)
    assert world.allocate()["slots_granted"] == 1
    assert world.balance(account) == 20
    assert world.discrepancies() == []


def test_credits_granted_once_never_come_again(world: World) -> None:
    world.rule("welcome", 50, "once")
    account = world.sign_up()
    spend(world.app, account, 50)
    world.go_to(NOON + 400 * DAY)
    assert world.allocate()["slots_granted"] == 0
    assert world.balance(account) == 0
    assert value(world.admin, "select next_at from billing.free_credit_slots") is None


def test_two_workers_grant_each_period_once(world: World) -> None:
    accounts = [world.sign_up() for _ in range(40)]
    world.rule()
    workers = [world.database.connect("billing_worker") for _ in range(3)]
    called = at_once([lambda conn=conn: call(conn, "allocate_due_credits") for conn in workers])
    for conn in workers:
        conn.close()
    world.allocate()
    assert not [error for error in called if isinstance(error, psycopg.Error)]
    assert [world.balance(account) for account in accounts] == [10] * 40
    assert world.discrepancies() == []


def test_an_account_that_another_transaction_has_locked_is_left_for_the_next_call(world: World) -> None:
    first, second = world.sign_up(), world.sign_up()
    world.rule()
    with world.database.connect(autocommit=False) as other:
        other.execute("select billing._lock_balance(%s)", [first])
        assert world.allocate()["accounts"] == 1
    assert (world.balance(first), world.balance(second)) == (0, 10)
    world.allocate()
    assert world.balance(first) == 10


def test_a_chunk_takes_no_more_accounts_than_it_may(world: World) -> None:
    for _ in range(3):
        world.sign_up()
    world.rule()
    assert [world.allocate(accounts_max=2)["accounts"] for _ in range(3)] == [2, 1, 0]


def test_a_sign_up_that_finds_the_rule_locked_succeeds_and_the_clock_grants_later(world: World) -> None:
    world.rule()
    with world.database.connect(autocommit=False) as other:
        other.execute("select billing.set_free_credits('daily', 20, 'day')")
        account = world.sign_up()
        assert balance(world.admin, account) == 0
    world.admin.execute("update billing.free_credits set updated_at = '-infinity'")
    assert world.allocate()["slots_granted"] == 1
    assert world.balance(account) == 20
    assert world.discrepancies() == []


def test_a_user_who_signs_up_while_a_rule_is_added_gets_them_from_the_clock(world: World) -> None:
    with world.database.connect(autocommit=False) as other:
        other.execute("select billing.set_free_credits('daily', 10, 'day')")
        account = world.sign_up()
        assert balance(world.admin, account) == 0
    assert world.allocate()["slots_granted"] == 1
    assert world.balance(account) == 10


def test_a_session_with_its_own_dates_and_time_zone_grants_no_second_time(world: World) -> None:
    world.rule()
    account = world.sign_up()
    other = world.sign_up()
    world.admin.execute("update billing.free_credit_slots set granted_for = null, next_at = '-infinity'")
    world.admin.execute("delete from billing.free_credit_slots where account_id = %s", [other])
    options = "-c DateStyle=German -c TimeZone=Asia/Tokyo"  # where the day began yesterday
    with world.database.connect("service_role", options=options) as session:
        session.execute("select from billing.set_free_credits('daily', 10, 'day')")
        session.execute("select from billing.allocate_due_credits()")
    assert [balance(world.admin, each) for each in (account, other)] == [10, 10]
    assert world.discrepancies() == []


def test_debt_is_repaid_first(world: World) -> None:
    account = world.sign_up()
    call(world.app, "set_credit_limits", account_id=account, overdraft=30)
    spend(world.app, account, 15)
    world.rule()
    world.allocate()
    assert world.balance(account) == -5
    world.go_to(NOON + DAY)
    world.allocate()
    assert world.balance(account) == 5
    assert world.discrepancies() == []


@pytest.mark.parametrize("every", ["once", "day"])
def test_an_account_without_room_for_more_waits_and_keeps_nobody_waiting(world: World, every: str) -> None:
    full, other = world.sign_up(), world.sign_up()
    for _ in range(2):
        grant(world.app, full, 4611686018427387903)
    world.rule("bonus", 100, every)
    assert world.allocate()["slots_granted"] == 1
    assert world.balance(other) == 100
    assert world.allocate()["accounts"] == 0
    spend(world.app, full, 1000)
    world.go_to(NOON + DAY)
    world.allocate()
    assert world.balance(full) == 9223372036854775806 - 900


# Who gets none


@pytest.mark.parametrize("state", ["frozen", "closed", "banned", "deleted", "deleted softly"])
def test_an_account_without_a_user_in_good_standing_gets_none(world: World, state: str) -> None:
    account = world.sign_up()
    mine = "where id = (select owner_id from billing.accounts where id = %s)"
    match state:
        case "frozen":
            freeze(world.admin, account)
        case "closed":
            close(world.app, account)
        case "banned":
            world.admin.execute(
                "update auth.users set banned_until = now() + interval '1 day' " + mine, [account]
            )
        case "deleted":
            world.delete_user(account)
        case _:
            world.admin.execute("update auth.users set deleted_at = now() " + mine, [account])
    world.rule()
    assert world.allocate()["slots_granted"] == 0
    assert world.balance(account) == 0
    assert world.allocate()["accounts"] == 0  # nor is it looked at all day
    assert world.discrepancies() == []


def test_an_account_that_is_in_order_again_gets_them_the_next_day(world: World) -> None:
    world.rule("allowance", 10, "month")
    account = world.sign_up()
    freeze(world.admin, account)
    world.go_to(datetime(2030, 7, 1, 1, tzinfo=UTC))
    world.allocate()
    assert world.balance(account) == 0
    world.admin.execute("update billing.accounts set frozen_at = null, frozen_reason = null")
    assert world.allocate()["slots_granted"] == 0
    world.go_to(datetime(2030, 7, 2, 1, tzinfo=UTC))
    assert world.allocate()["slots_granted"] == 1
    assert world.discrepancies() == []


def test_a_team_gets_none(world: World) -> None:
    owner = value(world.admin, "select owner_id from billing.accounts where id = %s", [world.sign_up()])
    teams = [call(world.app, "create_team", owner_id=owner, name="Before")["id"]]
    world.rule()
    teams.append(call(world.app, "create_team", owner_id=owner, name="After")["id"])
    assert world.allocate()["accounts"] == 1
    assert [balance(world.admin, team) for team in teams] == [0, 0]
    assert world.allocate()["accounts"] == 0
    assert world.discrepancies() == []


def test_an_unconfirmed_address_gets_none_until_it_is_confirmed(world: World) -> None:
    world.rule()
    account = world.sign_up_unconfirmed("eve@example.com")
    world.allocate()
    assert balance(world.admin, account) == 0
    assert world.discrepancies() == []
    world.admin.execute("update auth.users set email_confirmed_at = now() where email = 'eve@example.com'")
    assert balance(world.admin, account) == 10  # at once
    assert world.discrepancies() == []


def test_a_confirmed_phone_number_is_a_person_too(world: World) -> None:
    world.rule()
    users = [uuid4(), uuid4()]
    for user in users:
        world.admin.execute("insert into auth.users (id) values (%s)", [user])
    world.admin.execute(
        "update auth.users set phone = '4912345', phone_confirmed_at = now() where id = %s", [users[0]]
    )
    assert [balance(world.admin, account_of(world.admin, user)) for user in users] == [10, 0]


def test_a_rule_for_every_account_asks_for_no_address(world: World) -> None:
    world.rule(once_per_person=False)
    account = world.sign_up_unconfirmed("eve@example.com")
    assert balance(world.admin, account) == 10
    assert value(world.admin, "select count(*) from billing.free_credit_persons") == 0


def test_accounts_from_before_the_time_that_a_rule_names_get_none(world: World) -> None:
    old = world.sign_up()
    world.rule(for_accounts_since=value(world.admin, "select clock_timestamp()"))
    new = world.sign_up()
    world.allocate()
    assert (world.balance(old), world.balance(new)) == (0, 10)
    assert world.discrepancies() == []
    world.rule()  # for all of them
    world.allocate()
    assert (world.balance(old), world.balance(new)) == (10, 10)
    world.rule(for_accounts_since=value(world.admin, "select clock_timestamp()"))
    world.go_to(NOON + DAY)
    world.allocate()
    assert (world.balance(old), world.balance(new)) == (0, 0)
    assert world.discrepancies() == []


# Subscribers


@pytest.mark.parametrize(
    ("status", "credits"),
    [("active", 0), ("trialing", 0), ("past_due", 0), ("incomplete", 10), ("unpaid", 10), ("paused", 10)],
)
def test_a_subscription_ends_them_while_it_lasts(
    world: World, plans: None, status: str, credits: int
) -> None:
    account = world.sign_up()
    world.subscribe(account, status)
    world.rule(until_subscribed=True)
    world.allocate()
    assert world.balance(account) == credits
    world.subscribe(account, "canceled", FEBRUARY, ended_at=FEBRUARY)
    world.go_to(NOON + DAY)
    world.allocate()
    assert world.balance(account) == 10
    assert world.discrepancies() == []


def test_a_subscriber_gets_them_beside_the_plan_unless_the_rule_says_otherwise(
    world: World, plans: None
) -> None:
    account = world.sign_up()
    world.subscribe(account)
    world.rule()
    world.allocate()
    assert world.balance(account) == 10


def test_a_subscription_bought_and_cancelled_the_same_minute_gives_no_second_period(
    world: World, plans: None
) -> None:
    world.rule("allowance", 10, "month", until_subscribed=True)
    account = world.sign_up()
    spend(world.app, account, 10)
    for number, status in enumerate(("active", "canceled", "active", "canceled")):
        world.subscribe(account, status, JANUARY + timedelta(minutes=number))
        world.allocate()
    world.go_to(NOON + DAY)
    world.allocate()
    assert world.balance(account) == 0
    assert world.discrepancies() == []


# Farming


@pytest.mark.parametrize(
    ("first", "second", "is_one_person"),
    [
        ("eve@example.com", "eve+1@example.com", True),
        ("eve+1@example.com", "Eve+2@Example.com", True),
        ("e.v.e@gmail.com", "eve+x@googlemail.com", True),
        ("e.ve@example.com", "eve@example.com", False),
        ("eve@example.com", "eve@example.org", False),
        ("+1@example.com", "+2@example.com", False),
    ],
)
def test_one_account_of_a_person_gets_them(
    world: World, first: str, second: str, is_one_person: bool
) -> None:
    world.rule("welcome", 50, "once")
    world.rule()
    accounts = [world.sign_up(first), world.sign_up(second)]
    assert [world.balance(account) for account in accounts] == [60, 0 if is_one_person else 60]
    world.go_to(NOON + DAY)
    world.allocate()
    assert [world.balance(account) for account in accounts] == [60, 50 * 0 if is_one_person else 60]
    assert world.discrepancies() == []


def test_of_one_persons_accounts_that_a_rule_finds_the_oldest_gets_them(world: World) -> None:
    accounts = [world.sign_up(f"eve+{number}@example.com") for number in range(4)]
    world.rule()
    world.allocate()
    assert [world.balance(account) for account in accounts] == [10, 0, 0, 0]


def test_two_sign_ups_of_one_person_at_the_same_moment_get_them_once(world: World) -> None:
    world.rule()
    accounts = at_once([lambda n=n: create_user(world.database, f"eve+{n}@example.com") for n in range(6)])
    owned = [account_of(world.admin, user) for user in accounts if isinstance(user, UUID)]
    world.allocate()
    assert sorted(world.balance(account) for account in owned) == [0] * 5 + [10]
    assert world.discrepancies() == []


def test_a_user_who_deletes_the_account_and_signs_up_again_gets_the_next_period_only(world: World) -> None:
    world.rule("welcome", 50, "once")
    world.rule()
    first = world.sign_up("eve@example.com")
    world.delete_user(first)
    second = world.sign_up("eve@example.com")
    assert world.balance(second) == 0
    world.go_to(NOON + DAY)
    world.allocate()
    assert world.balance(second) == 10
    assert world.discrepancies() == []


def test_a_frozen_account_keeps_its_person(world: World) -> None:
    world.rule()
    first = world.sign_up("eve@example.com")
    freeze(world.admin, first)
    world.delete_user(first)
    second = world.sign_up("eve+again@example.com")
    world.go_to(NOON + DAY)
    world.allocate()
    assert world.balance(second) == 0
    assert world.discrepancies() == []


def test_a_changed_address_gives_no_second_period(world: World) -> None:
    world.rule()
    account = world.sign_up("eve@example.com")
    world.admin.execute("update auth.users set email = 'mallory@example.com', email_confirmed_at = null")
    world.admin.execute("update auth.users set email_confirmed_at = now()")
    world.allocate()
    assert world.balance(account) == 10
    other = world.sign_up("eve@example.com")
    assert world.balance(other) == 0
    assert world.discrepancies() == []


def test_a_clock_that_is_set_back_grants_nothing_again(world: World) -> None:
    world.rule()
    account = world.sign_up()
    world.go_to(NOON + DAY)
    world.allocate()
    for moment in (NOON, NOON + DAY):
        world.go_to(moment)
        world.allocate()
    assert world.balance(account) == 10
    assert len(lots(world.admin, account)) == 2
    assert world.discrepancies() == []


def test_a_sign_up_just_before_the_end_of_a_day_gets_both_days_once(world: World) -> None:
    world.rule()
    world.go_to(datetime(2030, 6, 15, 23, 59, 58, tzinfo=UTC))
    account = world.sign_up()
    world.go_to(datetime(2030, 6, 16, 0, 0, 1, tzinfo=UTC))
    for _ in range(2):
        world.allocate()
    assert world.balance(account) == 10
    assert entries(world.admin, account) == [("grant", 10), ("expiry", -10), ("grant", 10)]


# Cards


@pytest.fixture
def carded(world: World, pair: list[Person]) -> tuple[UUID, UUID]:
    """Two people with one card, which the first used first."""
    world.admin.execute("update billing.settings set seen_card_policy = 'hold'")
    pair[0].attach("visa")
    pair[1].attach("visa", FEBRUARY)
    return pair[0].account_id, pair[1].account_id


def test_a_card_that_was_seen_on_another_account_sets_them_aside_once(
    world: World, carded: tuple[UUID, UUID]
) -> None:
    world.rule()
    for day in range(3):
        world.go_to(NOON + day * DAY)
        world.allocate()
    assert [world.balance(account) for account in carded] == [10, 0]
    found = fetch(world.admin, "select account_id, kind, amount, status from billing.held_credits")
    assert found == [{"account_id": carded[1], "kind": "free", "amount": 10, "status": "pending"}]
    assert world.discrepancies() == []


def test_an_approved_card_gets_the_period_and_all_later_ones(world: World, carded: tuple[UUID, UUID]) -> None:
    world.rule()
    world.allocate()
    held_id = value(world.admin, "select id from billing.held_credits")
    review(world.app, held_id, "approve")
    assert world.balance(carded[1]) == 10
    assert world.discrepancies() == []
    world.go_to(NOON + DAY)
    world.allocate()
    assert world.balance(carded[1]) == 10
    assert world.discrepancies() == []


def test_a_refused_card_gets_none_ever(world: World, carded: tuple[UUID, UUID]) -> None:
    world.rule()
    world.allocate()
    review(world.app, value(world.admin, "select id from billing.held_credits"), "refuse")
    world.go_to(NOON + DAY)
    world.allocate()
    assert world.balance(carded[1]) == 0
    assert world.discrepancies() == []


def test_a_card_that_is_reported_later_withdraws_what_is_unspent(world: World, pair: list[Person]) -> None:
    world.admin.execute("update billing.settings set seen_card_policy = 'hold'")
    world.go_to(FEBRUARY)
    world.rule("welcome", 50, "once")
    world.rule("x_bonus", 7, "once", once_per_person=False)
    world.allocate()
    spend(world.app, pair[1].account_id, 20)
    pair[0].attach("visa")
    pair[1].attach("visa", FEBRUARY)
    assert [world.balance(person.account_id) for person in pair] == [57, 7]
    assert world.discrepancies() == []
    review(world.app, value(world.admin, "select id from billing.held_credits"), "approve")
    assert world.balance(pair[1].account_id) == 37
    assert world.discrepancies() == []


def test_by_default_test_mode_does_not_look_at_cards(world: World, carded: tuple[UUID, UUID]) -> None:
    world.admin.execute("update billing.settings set seen_card_policy = null")
    world.rule()
    world.allocate()
    assert world.balance(carded[1]) == 10


# Rules


def test_a_changed_amount_counts_from_the_next_period(world: World) -> None:
    world.rule()
    account = world.sign_up()
    world.rule(credits=25, description="More of them")
    world.allocate()
    assert world.balance(account) == 10
    world.go_to(NOON + DAY)
    world.allocate()
    assert world.balance(account) == 25
    assert world.discrepancies() == []


def test_a_rule_that_ends_stops_and_one_that_comes_back_goes_on(world: World) -> None:
    world.rule(expires="never")
    account = world.sign_up()
    world.rule(expires="never", active=False)
    late = world.sign_up()
    world.go_to(NOON + DAY)
    assert world.allocate() == {"accounts": 0, "slots_granted": 0, "credits_granted": 0}
    assert (world.balance(account), world.balance(late)) == (10, 0)
    assert world.discrepancies() == []
    world.rule(expires="never")
    world.allocate()
    assert (world.balance(account), world.balance(late)) == (20, 10)
    world.rule(expires="never", active=False)
    world.rule(expires="never", credits=15)
    world.allocate()
    assert world.balance(account) == 20
    assert world.discrepancies() == []


def test_a_rule_that_is_ended_by_its_name_is_not_active(world: World) -> None:
    world.rule()
    account = world.sign_up()
    assert call(world.app, "end_free_credits", name="daily")["active"] is False
    world.go_to(NOON + DAY)
    assert world.allocate()["slots_granted"] == 0
    assert world.balance(account) == 0
    assert world.discrepancies() == []
    with refused("TB112"):
        call(world.app, "end_free_credits", name="daily" * 2)


def test_how_often_a_rule_grants_cannot_change(world: World) -> None:
    world.rule()
    with refused("TB110") as error:
        world.rule(every="month")
    assert "free credits daily are granted by day, which cannot change to month" in str(error.value)


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"every": "year"}, "every is known"),
        ({"expires": "tomorrow"}, "expires is known"),
        ({"every": "once", "expires": "period_end"}, "credits granted once have no period"),
        ({"name": "Two Words"}, "name is a word"),
        ({"description": ""}, "description has 1 to 200 characters"),
        ({"every": None}, "null"),
    ],
)
def test_a_rule_that_says_what_no_rule_may_is_refused(world: World, wrong: Row, what: str) -> None:
    with refused("TB111") as error:
        world.rule(**wrong)
    assert what in str(error.value)


# Proof


def _lose(world: World, table: str, account: UUID) -> None:
    world.admin.execute(f"alter table billing.{table} disable trigger user")
    world.admin.execute(f"delete from billing.{table} where account_id = %s", [account])


def test_a_missing_grant_is_found(world: World) -> None:
    world.rule()
    account = world.sign_up()
    _lose(world, "credit_grants", account)
    assert ("free_and_not_granted", f"free_credits:daily:{account}:2030-06-15") in _found(world)


def test_a_lot_without_its_rule_and_period_is_found(world: World) -> None:
    world.rule()
    account = world.sign_up()
    assert _found(world) == []
    for key in (
        f"free_credits:daily:{account}:2030-06-20",
        f"free_credits:daily:{account}:2030-06-15#2",
        "x",
    ):
        world.admin.execute("update billing.credit_grants set idempotency_key = %s", [key])
        assert ("granted_and_not_free", key) in _found(world)


def test_an_account_that_no_clock_looks_at_is_found(world: World) -> None:
    world.rule()
    account = world.sign_up()
    world.go_to(NOON + DAY)
    assert _found(world) == []  # the clock is about to
    key = f"free_credits:daily:{account}:2030-06-16"
    world.admin.execute("update billing.free_credit_slots set next_at = null")
    assert _found(world) == [("free_and_not_granted", key)]
    world.admin.execute("delete from billing.free_credit_slots")
    world.admin.execute("update billing.accounts set created_at = now() - interval '1 hour'")
    assert ("free_and_not_granted", key) in _found(world)
    world.rule()  # which mends it
    assert ("free_and_not_granted", key) not in _found(world)


def test_recalculating_an_account_mends_what_is_found(world: World) -> None:
    world.rule()
    world.rule("welcome", 50, "once", expires="30 days")
    account = world.sign_up()
    spend(world.app, account, 3)
    recalculate = "select * from billing.recalculate_account(%s)"
    before = (balance(world.admin, account), len(lots(world.admin, account)))
    world.admin.execute(recalculate, [account])  # which leaves a sound account alone
    assert (balance(world.admin, account), len(lots(world.admin, account))) == before

    world.admin.execute("delete from billing.free_credit_slots where rule = 'daily'")
    assert _found(world) != []
    world.admin.execute(recalculate, [account])
    assert _found(world) == []
    assert balance(world.admin, account) == before[0]

    world.go_to(NOON + DAY)
    world.admin.execute("update billing.free_credit_slots set next_at = null")
    assert _found(world) != []
    world.admin.execute(recalculate, [account])
    assert _found(world) == []
    assert balance(world.admin, account) == 60

    world.admin.execute(
        "select billing._grant_credits(%s, 5, 'stripe', 'free_credits:daily:x', 'free', 'daily', null)",
        [account],
    )
    assert _found(world) == [("granted_and_not_free", "free_credits:daily:x")]
    world.admin.execute(recalculate, [account])
    assert _found(world) == []
    assert balance(world.admin, account) == 60
    assert world.discrepancies() == []


def test_a_grant_that_was_deleted_with_its_entry_is_restored(world: World) -> None:
    world.rule("welcome", 50, "once")
    account = world.sign_up()
    grant(world.app, account, 7)
    for table in ("credit_consumptions", "credit_grants", "credit_entries"):
        world.admin.execute(f"alter table billing.{table} disable trigger user")
    world.admin.execute("delete from billing.credit_grants where source = 'free'")
    world.admin.execute("delete from billing.credit_entries where source = 'free'")
    assert _found(world) == [("free_and_not_granted", f"free_credits:welcome:{account}:once")]
    world.admin.execute("select * from billing.recalculate_account(%s)", [account])
    assert balance(world.admin, account) == 57
    assert [(lot["source"], lot["amount"]) for lot in lots(world.admin, account)] == [
        ("app", 7),
        ("free", 50),
    ]
    assert _found(world) == []
    assert world.discrepancies() == []


def _found(world: World) -> list[tuple[str, str]]:
    return [
        (row["invariant"], row["business_key"])
        for row in fetch(
            world.admin, "select invariant, business_key from billing.entitlement_discrepancies order by 1, 2"
        )
    ]
