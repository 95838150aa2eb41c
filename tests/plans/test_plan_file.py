"""plans.toml: every mistake is a line that names the place, and what passes is what the database takes."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import psycopg
import pytest
from psycopg.types.json import Jsonb

from cli.plans.file import PLAN_METADATA, Plan
from cli.plans.read import BadPlanFile, read_plan_file
from cli.plans.rules import CREDITS_MAX, CREDITS_PER_UNIT, EXPIRES_AFTER, ROLLOVER, SEATS, TRIAL_DAYS_MAX

ROOT = Path(__file__).parents[2]
GOOD = """
[products.pro]
name = "Pro"
[plans.monthly]
product = "pro"
unit_amount = 1900
currency = "usd"
interval = "month"
"""


def mistakes(tmp_path: Path, text: str | bytes) -> list[str]:
    path = tmp_path / "plans.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BadPlanFile) as refused:
        read_plan_file(path)
    assert all("\n" not in mistake for mistake in refused.value.mistakes)
    return [re.sub(rf"^{path}:([0-9]+:)? ", "", mistake) for mistake in refused.value.mistakes]


@pytest.mark.parametrize(
    ("changed", "mistake"),
    [
        ('unit_amount = "19.00"',
         'plans.monthly.unit_amount: is "19.00", not a whole number of minor units (1900 is 19.00) from 0 to '
         "999999999999"),
        ("unit_amount = 19.5",
         "plans.monthly.unit_amount: is 19.5, not a whole number of minor units (1900 is 19.00) from 0 to "
         "999999999999"),
        ("unit_amount = true",
         "plans.monthly.unit_amount: is true, not a whole number of minor units (1900 is 19.00) from 0 to "
         "999999999999"),
        ("unit_amount = -1",
         "plans.monthly.unit_amount: is -1, not a whole number of minor units (1900 is 19.00) from 0 to 999999999999"),
        ("", "plans.monthly.unit_amount: is missing"),
        ("unit_amount = 1\ninitial_credits = -1",
         "plans.monthly.initial_credits: is -1, not a whole number of credits from 0 to 999999999999999999"),
        ("unit_amount = 1\nmonthly_credits = 1.0",
         "plans.monthly.monthly_credits: is 1.0, not a whole number of credits from 0 to 999999999999999999"),
        ("unit_amount = 1\nmonthly_credit = 1",
         "plans.monthly.monthly_credit: is not known here; did you mean monthly_credits?"),
        ("unit_amount = 1\npack_credits = 1",
         "plans.monthly.pack_credits: is not known here; did you mean trial_credits?"),
        ('unit_amount = 1\ncredits_rollover = "periods:0"',
         'plans.monthly.credits_rollover: is "periods:0", not none, all, periods:N or cap:N'),
        ("unit_amount = 1\ncredits_rollover = 2", "plans.monthly.credits_rollover: is 2, not text"),
        ('unit_amount = 1\ncredits_on_proration = "half"',
         'plans.monthly.credits_on_proration: is "half", not one of delta, full, none'),
        ("unit_amount = 1\noverage_limit = 5",
         "plans.monthly: overage_limit needs overage_pack, the pack that bills the overage"),
        ('unit_amount = 1\noverage_limit = 5\noverage_pack = "more"',
         "plans.monthly.overage_pack: there is no [packs.more]"),
        ("unit_amount = 1\ntrial_days = 731",
         "plans.monthly.trial_days: is 731, not a whole number of days from 0 to 730"),
        ('unit_amount = 1\ntrial_days = "14"',
         'plans.monthly.trial_days: is "14", not a whole number of days from 0 to 730'),
        ("unit_amount = 1\nseats = 0",
         'plans.monthly.seats: is 0, not "any", a number such as 5 or a range such as "2-50"'),
        ('unit_amount = 1\nseats = "5-2"',
         'plans.monthly.seats: is "5-2", not "any", a number such as 5 or a range such as "2-50"'),
        ("unit_amount = 1\nseats = true",
         'plans.monthly.seats: is true, not "any", a number such as 5 or a range such as "2-50"'),
        ('unit_amount = 1\ncredits_on_cancel = ""',
         'plans.monthly.credits_on_cancel: is "", not one of period_end, stop'),
        ('unit_amount = 1\ncredits_on_downgrade = "refund"',
         'plans.monthly.credits_on_downgrade: is "refund", not one of take_back, keep'),
        ('unit_amount = 1\ntrial_credits_end = "never"',
         'plans.monthly.trial_credits_end: is "never", not one of trial_end, keep'),
        ("unit_amount = 1\ncustom_unit_amount = {}",
         "plans.monthly.custom_unit_amount: is not known here; did you mean unit_amount?"),
        ("unit_amount = 1\nfeatures = []",
         "plans.monthly.features: is a list, not a table such as { projects = true }"),
        ("unit_amount = 1\nfeatures = { from = 2026-01-01 }",
         "plans.monthly.features: holds a date, nan or inf, which JSON does not have"),
        ("unit_amount = 1\nfeatures = { limit = inf }",
         "plans.monthly.features: holds a date, nan or inf, which JSON does not have"),
        (f'unit_amount = 1\nfeatures = {{ a = "{"x" * 500}" }}',
         "plans.monthly.features: takes 508 characters as JSON; Stripe's metadata has room for 500"),
        ("unit_amount = 1\ninterval_count = 37",
         "plans.monthly.interval_count: is 37, not a whole number of months from 1 to 36"),
        ("unit_amount = 1\nactive = 1", "plans.monthly.active: is 1, not true or false"),
        ('unit_amount = 1\nnickname = "\\u0000"',
         "plans.monthly.nickname: holds a NUL character, which Postgres cannot store"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_plan(tmp_path: Path, changed: str, mistake: str) -> None:
    assert mistakes(tmp_path, GOOD.replace("unit_amount = 1900", changed)) == [mistake]


@pytest.mark.parametrize(
    ("before", "after", "mistake"),
    [
        ('currency = "usd"', 'currency = "dollars"',
         'plans.monthly.currency: is "dollars", not a three-letter code such as "usd"'),
        ('interval = "month"', 'interval = "monthly"',
         'plans.monthly.interval: is "monthly", not one of day, week, month, year'),
        ('interval = "month"', "", "plans.monthly.interval: is missing"),
        ('product = "pro"', 'product = "team"', "plans.monthly.product: there is no [products.team]"),
        ('product = "pro"', "", "plans.monthly.product: is missing"),
        ('name = "Pro"', "", "products.pro.name: is missing"),
        ('name = "Pro"', 'name = "Pro"\nstripe_id = "a b"',
         "products.pro.stripe_id: is \"a b\", not a Stripe product's id such as prod_NWjs8kKbJWmuuc"),
        ("[products.pro]", "[product.pro]", "product: is not known here; did you mean products?"),
        ("[plans.monthly]", '[plans.""]', 'plans."": is not a name: use letters, digits, _ and -'),
        ("[plans.monthly]", f"[plans.{'a' * 201}]",
         f"plans.{'a' * 201}: has 201 characters; Stripe takes 200"),
    ],
)  # fmt: skip
def test_a_mistake_elsewhere(tmp_path: Path, before: str, after: str, mistake: str) -> None:
    assert before in GOOD
    assert mistake in mistakes(tmp_path, GOOD.replace(before, after))


MANY = """
[product.typo]
[products.pro]
name = ""
[plans."a b"]
product = "team"
unit_amount = 1900
currency = "usd"
interval = "year"
interval_count = 4
features = { text = '''
[packs.any]
''' }
nick = "x"
[packs."a b"]
product = "pro"
currency = "usd"
custom_unit_amount = { minimum = 5.0, least = 1 }
pack_credits = 1
"""


def test_all_mistakes_are_reported_at_once_each_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "plans.toml"
    path.write_text("\n" + MANY.lstrip())
    with pytest.raises(BadPlanFile) as refused:
        read_plan_file(path)
    assert [mistake.removeprefix(f"{path}:") for mistake in refused.value.mistakes] == [
        "2: product: is not known here; did you mean products?",
        "4: products.pro.name: is empty",
        '6: plans."a b".product: there is no [products.team]',
        '10: plans."a b".interval_count: is 4, not a whole number of years from 1 to 3',
        '14: plans."a b".nick: is not known here; did you mean nickname?',
        '15: packs."a b".credits_per_unit: is missing',
        '15: packs."a b": is a plan too: a lookup key names one price',
        '18: packs."a b".custom_unit_amount.least: is not known here; known keys: minimum, maximum, preset',
        '18: packs."a b".custom_unit_amount.minimum: is 5.0, not a whole number of minor units '
        "(1900 is 19.00) from 1 to 999999999999",
        '19: packs."a b".pack_credits: cannot be set beside custom_unit_amount',
    ]


def test_two_products_with_one_stripe_id(tmp_path: Path) -> None:
    text = GOOD.replace('name = "Pro"', 'name = "Pro"\nstripe_id = "prod_1"')
    assert mistakes(tmp_path, text + '[products.team]\nname = "T"\nstripe_id = "prod_1"\n') == [
        "products: pro and team have the same stripe_id, prod_1"
    ]


def test_a_key_names_one_price(tmp_path: Path) -> None:
    pack = '[packs.monthly]\nproduct = "pro"\nunit_amount = 1\ncurrency = "usd"\npack_credits = 1\n'
    assert mistakes(tmp_path, GOOD + pack) == ["packs.monthly: is a plan too: a lookup key names one price"]
    assert mistakes(tmp_path, GOOD + pack.replace("monthly", "p").replace("pack_credits = 1\n", "")) == [
        "packs.p.pack_credits: is missing"
    ]
    assert mistakes(tmp_path, GOOD + pack.replace("monthly", "p").replace("pack_credits = 1", "pack_credits = 0")) == [
        f"packs.p.pack_credits: is 0, not a whole number of credits from 1 to {CREDITS_MAX}"
    ]  # fmt: skip


CUSTOM = """
[packs.any]
product = "pro"
currency = "usd"
custom_unit_amount = { minimum = 500, preset = 2000 }
credits_per_unit = 100
"""


@pytest.mark.parametrize(
    ("before", "after", "mistake"),
    [
        ("credits_per_unit = 100", "", "credits_per_unit: is missing"),
        ("credits_per_unit = 100", "credits_per_unit = 0",
         "credits_per_unit: is 0, not a number above 0 with at most 6 decimal places"),
        ("credits_per_unit = 100", "credits_per_unit = -1.5",
         "credits_per_unit: is -1.5, not a number above 0 with at most 6 decimal places"),
        ("credits_per_unit = 100", "credits_per_unit = 0.0000001",
         "credits_per_unit: is 1e-07, not a number above 0 with at most 6 decimal places"),
        ("credits_per_unit = 100", "credits_per_unit = inf",
         "credits_per_unit: is inf, not a number above 0 with at most 6 decimal places"),
        ("credits_per_unit = 100", 'credits_per_unit = "100"',
         'credits_per_unit: is "100", not a number above 0 with at most 6 decimal places'),
        ("credits_per_unit = 100", "credits_per_unit = 100\npack_credits = 5",
         "pack_credits: cannot be set beside custom_unit_amount"),
        ("credits_per_unit = 100", "credits_per_unit = 100\nunit_amount = 900",
         "unit_amount: cannot be set beside custom_unit_amount"),
        ("custom_unit_amount = { minimum = 500, preset = 2000 }\ncredits_per_unit = 100",
         "unit_amount = 900\npack_credits = 5\ncredits_per_unit = 100",
         "credits_per_unit: cannot be set without custom_unit_amount"),
        ("{ minimum = 500, preset = 2000 }", "500",
         "custom_unit_amount: is 500, not a table such as { minimum = 500, preset = 2000 }"),
        ("minimum = 500", "least = 500",
         "custom_unit_amount.least: is not known here; known keys: minimum, maximum, preset"),
        ("minimum = 500", "minimum = 0",
         "custom_unit_amount.minimum: is 0, not a whole number of minor units (1900 is 19.00) from 1 to 999999999999"),
        ("preset = 2000", "preset = 400",
         "custom_unit_amount: minimum, preset and maximum are not in ascending order"),
        ("credits_per_unit = 100", 'credits_per_unit = 100\npack_expires_after = "90 hours"',
         'pack_expires_after: is "90 hours", not such as "90 days", "12 months" or "1 year"'),
    ],
)  # fmt: skip
def test_a_mistake_in_a_pack_whose_amount_the_customer_chooses(
    tmp_path: Path, before: str, after: str, mistake: str
) -> None:
    assert before in CUSTOM
    assert mistakes(tmp_path, GOOD + CUSTOM.replace(before, after)) == [f"packs.any.{mistake}"]


@pytest.mark.parametrize(
    ("number", "text"), [("100", "100"), ("0.5", "0.5"), ("1e3", "1000.0"), ("0.000001", "0.000001")]
)
def test_credits_per_unit_are_written_as_the_database_reads_them(
    tmp_path: Path, number: str, text: str
) -> None:
    path = tmp_path / "plans.toml"
    path.write_text(GOOD + CUSTOM.replace("= 100", f"= {number}"))
    assert read_plan_file(path).prices["any"].metadata == {"credits_per_unit": text}


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        (b"\xff", "is not UTF-8 text"),
        ("plans = 3", "plans: is 3; write [plans.<name>]"),
        ("[plans]\nmonthly = 3", "plans.monthly: is 3; write [plans.<name>]"),
        ("", "declares no plans, packs, operations or free credits: write [plans.<lookup key>]"),
        (
            '[products.a]\nname = "A"\nname = "B"',
            "is not TOML: Cannot overwrite a value (at end of document)",
        ),
        ("a = [" * 5000, "is not TOML"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, text: str | bytes, mistake: str) -> None:
    [told] = mistakes(tmp_path, text)
    assert mistake in told


def terms(conn: psycopg.Connection[Any], **metadata: str) -> bool:
    """Whether the database takes these terms of a plan."""
    query = (
        "select billing.sync_price('price_1', 'prod_1', false, true, 'recurring', null, null, 'usd', 1, false, "
        "'month', 1, 'licensed', %s, clock_timestamp())"
    )
    try:
        conn.execute(query, [Jsonb(metadata)])
    except psycopg.Error as error:
        if error.sqlstate != "TB017":
            raise
        return False
    return True


def test_what_passes_here_passes_in_the_database(tmp_path: Path, conn: psycopg.Connection[Any]) -> None:
    """The widest values of every key: `sync_price` takes them all; the ones beside them it refuses, and so do we."""
    definition = conn.execute("select pg_get_functiondef('billing._declared_plan'::regproc)").fetchone()
    assert definition is not None
    assert f"'^({ROLLOVER.pattern})$'" in definition[0]
    for key in ("credits_on_proration", "credits_on_downgrade", "credits_on_cancel", "trial_credits_end"):
        choices = get_args(Plan.model_fields[key].annotation)
        [declared] = re.findall(rf"'{key}', array\[(.*?)\]", definition[0].replace("ARRAY", "array"))
        assert set(re.findall("'(.*?)'", declared)) == set(choices)
    of_packs = conn.execute("select pg_get_functiondef('billing._declared_pack'::regproc)").fetchone()
    assert of_packs is not None
    assert f"'^{EXPIRES_AFTER.pattern}$'" in of_packs[0]
    assert f"'^{CREDITS_PER_UNIT.pattern}$'" in of_packs[0]
    conn.execute(
        "insert into billing.products (stripe_product_id, livemode, name) values ('prod_1', false, 'Pro')"
    )
    for seats in (
        "any",
        "1",
        "999999",
        "1-1",
        "2-999999",
        "",
        "0",
        "01",
        "1-",
        "5-2",
        "1000000",
        "1-2-3",
        "-1",
    ):
        read = SEATS.fullmatch(seats)
        is_good = read is not None and (not read[2] or int(read[2]) >= int(read[1]))
        assert terms(conn, seats=seats) == is_good, seats
    for days in (0, TRIAL_DAYS_MAX, TRIAL_DAYS_MAX + 1):
        assert terms(conn, trial_days=str(days)) == (days <= TRIAL_DAYS_MAX)
    for key in ("initial_credits", "monthly_credits", "trial_credits"):
        assert key in PLAN_METADATA
        query = (
            "select billing._declared_credits('price_1', %s, jsonb_build_object(%s::text, %s::text), '{}')"
        )
        assert conn.execute(query, [key, key, str(CREDITS_MAX)]).fetchone() == (CREDITS_MAX,)
        with pytest.raises(psycopg.Error, match="a whole number"):
            conn.execute(query, [key, key, str(CREDITS_MAX + 1)])


def test_the_example_of_the_documentation_is_good() -> None:
    file = read_plan_file(ROOT / "docs/how-to/plans.toml")
    assert {price.kind for price in file.prices.values()} == {"plan", "pack"}
    assert (ROOT / "docs/how-to/plans.toml").read_text().strip() in (
        ROOT / "docs/how-to/plans-as-code.md"
    ).read_text()


def test_only_the_commands_of_plans_load_pydantic() -> None:
    loaded = "import sys; import cli.main; sys.exit('pydantic' in sys.modules or 'stripe' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", loaded], cwd=ROOT).returncode == 0


def test_mistakes_are_printed_one_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from cli.main import main

    path = tmp_path / "plans.toml"
    path.write_text(GOOD.replace("1900", "[]").replace('"usd"', '"[/x]"'))
    monkeypatch.setattr("sys.argv", ["till", "plans", "push", str(path), "--yes"])
    with pytest.raises(SystemExit) as exited:
        main()
    assert exited.value.code == 1
    assert capsys.readouterr().err.splitlines() == [
        f"error: {path}:6: plans.monthly.unit_amount: is a list, not a whole number of minor units (1900 is "
        "19.00) from 0 to 999999999999",
        f"error: {path}:7: plans.monthly.currency: is \"[/x]\", not a three-letter code such as \"usd\"",
    ]  # fmt: skip
    monkeypatch.setattr("sys.argv", ["till", "plans", "push", str(tmp_path / "none.toml")])
    with pytest.raises(SystemExit) as exited:
        main()
    assert exited.value.code == 2


DOCUMENTED = (ROOT / "docs/how-to/overage.md").read_text()


def test_the_documented_overage_is_a_plan_file(tmp_path: Path) -> None:
    path = tmp_path / "plans.toml"
    path.write_text(re.findall(r"```toml\n(.*?)```", DOCUMENTED, re.DOTALL)[0])
    [plan] = read_plan_file(path).plans.values()
    assert plan.metadata["overage_limit"] == "100"
    assert plan.metadata["overage_pack"] == "overage"


@pytest.mark.parametrize(
    "pack",
    [
        'unit_amount = 100\ncurrency = "eur"\npack_credits = 100',
        'unit_amount = 0\ncurrency = "usd"\npack_credits = 100',
        'custom_unit_amount = {}\ncurrency = "usd"\ncredits_per_unit = 100',
    ],
)
def test_a_pack_that_cannot_bill_overage_is_a_mistake(tmp_path: Path, pack: str) -> None:
    text = GOOD + f'overage_limit = 5\noverage_pack = "more"\n[packs.more]\nproduct = "pro"\n{pack}\n'
    [mistake] = mistakes(tmp_path, text)
    assert mistake == "plans.monthly: overage_pack more must have a fixed price above 0 in usd"
