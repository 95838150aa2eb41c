"""Tables that a plan file declares for the database alone → the calls that write them, and what these change.

The database judges: a preview makes the same calls in a transaction that is rolled back, and the difference is that
between the rows before and after.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, LiteralString

from psycopg.types.json import Jsonb

from cli.database import Connection, call, rows
from cli.plans.file import Operation, PlanFile

Action = Literal["create", "change", "withdraw", "same", "not in file"]
Difference = tuple[str, str | None, str | None]


@dataclass(frozen=True, slots=True)
class DatabaseStep:
    """One row that the file declares or the database has, and what a push does to it."""

    action: Action
    kind: str
    key: str
    differences: tuple[Difference, ...] = ()
    stripe_id: None = None

    @property
    def writes(self) -> bool:
        """Whether the step changes anything."""
        return self.action in ("create", "change", "withdraw")


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the plan file that is a table of the database.

    `held` reads rows as the file describes them: `key`, `name` (the row's table in the file) and `facts`, an object of
    texts. `declared` gives the arguments of the function `write` for each table of the file. `end` is called with the
    name of each row that the file, if it has the section, does not declare; None: such rows are left alone.
    """

    kind: str
    held: LiteralString
    declared: Callable[[PlanFile], Mapping[str, Mapping[str, Any]]]
    write: LiteralString
    end: LiteralString | None = None


def _operations(file: PlanFile) -> dict[str, dict[str, Any]]:
    return {key: _arguments(key, operation) for key, operation in file.operations.items()}


def _arguments(key: str, operation: Operation) -> dict[str, Any]:
    return {
        "operation": key,
        "name": operation.name,
        "active": operation.active,
        "rates": Jsonb(
            {
                component: {
                    # As text it would be no number; every number of a file is the shortest that reads the same.
                    "credits": float(rate.credits) if rate.credits % 1 else int(rate.credits),
                    "per": rate.per,
                    **({} if rate.unit is None else {"unit": rate.unit}),
                }
                for component, rate in operation.rates.items()
            }
        ),
        "markup": operation.markup,
        "minimum": operation.minimum,
        "rounding": operation.rounding,
        "on_excess": operation.on_excess,
        "valid_from": operation.valid_from,
    }


# The version in force of each operation, and those that are announced.
_OPERATIONS: LiteralString = """
select
    prices.operation as name,
    prices.operation || case when prices.valid_from > billing.current_time() then
        to_char(prices.valid_from at time zone 'utc', '" from "YYYY-MM-DD"T"HH24:MI:SS"Z"') else '' end as key,
    jsonb_build_object(
        'name', prices.name, 'active', case when prices.active then 'yes' else 'no' end,
        'markup', prices.markup || ' %%', 'minimum', prices.minimum::text, 'rounding', prices.rounding,
        'on_excess', prices.on_excess
    ) || (
        select jsonb_object_agg(
            'rates.' || rate.key,
            concat(
                (rate.value -> 'credits')::numeric, ' per ', nullif(rate.value ->> 'per', '1') || ' ',
                rate.value ->> 'unit'
            )
        )
        from jsonb_each(prices.rates) as rate
    ) as facts
from billing.operation_prices as prices
where prices.valid_from >= (
    select coalesce(max(latest.valid_from), '-infinity') from billing.operation_prices as latest
    where latest.operation = prices.operation and latest.valid_from <= billing.current_time()
)
order by prices.operation, prices.valid_from
"""


def _free_credits(file: PlanFile) -> dict[str, dict[str, Any]]:
    return {key: {"name": key, **rule.model_dump()} for key, rule in file.free_credits.items()}


_FREE_CREDITS: LiteralString = """
select
    name, name as key, jsonb_build_object(
        'credits', credits::text, 'every', every, 'expires', expires, 'description', description,
        'until_subscribed', case when until_subscribed then 'yes' else 'no' end,
        'once_per_person', case when once_per_person then 'yes' else 'no' end,
        'active', case when active then 'yes' else 'no' end
    ) || case when for_accounts_since is null then '{}' else jsonb_build_object(
        'for_accounts_since', to_char(for_accounts_since at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
    ) end as facts
from billing.free_credits
order by name
"""

SECTIONS = (
    Section("operation", _OPERATIONS, _operations, "billing.set_operation_price"),
    Section(
        "free credits",
        _FREE_CREDITS,
        _free_credits,
        "billing.set_free_credits",
        end="billing.end_free_credits",
    ),
)


def push_database(conn: Connection, file: PlanFile, *, yes: bool) -> list[DatabaseStep]:
    """Write all sections, all or none, and return what that changed; without `yes` all is rolled back."""
    with conn.transaction(force_rollback=not yes):
        return [step for section in SECTIONS for step in _push(conn, section, file)]


def _push(conn: Connection, section: Section, file: PlanFile) -> Iterator[DatabaseStep]:
    declared = section.declared(file)
    before = _held(conn, section)
    for arguments in declared.values():
        call(conn, section.write, **arguments)
    if section.end is not None and section.kind.replace(" ", "_") in file.model_fields_set:
        for name, facts in before.values():
            if name not in declared and facts["active"] == "yes":
                call(conn, section.end, name=name)
    after = _held(conn, section)
    for key, (name, facts) in after.items():
        old = before.get(key)
        if old is None:
            yield DatabaseStep("create", section.kind, key, tuple(_differences({}, facts)))
        elif differences := tuple(_differences(old[1], facts)):
            yield DatabaseStep("change", section.kind, key, differences)
        else:
            yield DatabaseStep("same" if name in declared else "not in file", section.kind, key)
    for key in sorted(before.keys() - after.keys()):
        yield DatabaseStep("withdraw", section.kind, key)


def _held(conn: Connection, section: Section) -> dict[str, tuple[str, Mapping[str, str]]]:
    return {row["key"]: (row["name"], row["facts"]) for row in rows(conn, section.held, {})}


def _differences(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[Difference]:
    for fact in sorted(before.keys() | after.keys()):
        old, new = before.get(fact), after.get(fact)
        if old != new:
            yield fact, old, new
