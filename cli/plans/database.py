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
    texts. `declared` gives the arguments of the function `write` for each table of the file.
    """

    kind: str
    held: LiteralString
    declared: Callable[[PlanFile], Mapping[str, Mapping[str, Any]]]
    write: LiteralString


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

SECTIONS = (Section("operation", _OPERATIONS, _operations, "billing.set_operation_price"),)


def push_database(conn: Connection, file: PlanFile, *, yes: bool) -> list[DatabaseStep]:
    """Write all sections, all or none, and return what that changed; without `yes` all is rolled back."""
    with conn.transaction(force_rollback=not yes):
        return [step for section in SECTIONS for step in _push(conn, section, file)]


def _push(conn: Connection, section: Section, file: PlanFile) -> Iterator[DatabaseStep]:
    declared = section.declared(file)
    before = _held(conn, section)
    for arguments in declared.values():
        call(conn, section.write, **arguments)
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
