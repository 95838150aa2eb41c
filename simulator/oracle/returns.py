"""Returned money of one invoice → how many of its credits are gone, slot by slot.

The share of a line that is kept is (1 - c/t)(1 - R/(T - C)): t is what was paid for the line, c what credit notes
name of it, R what was returned without naming lines, T the invoice's total and C all that names lines. What each
return takes of a line comes first of the line's slots that start after the money was returned or never began because
the subscription had ended, in proportion to what is left of each, and then of all others. A lost dispute's money was
returned when it was opened. Packs and initial credits are parts of the invoice too, unless their line cost nothing:
of that nothing is taken. The whole is rounded down, and each part, in order of time, gets what the sum up to it says
more than the sum before it.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction

from simulator.oracle.facts import Dispute, Facts, Invoice, Line, Return

# (moment, item) of a slot; of packs and initial credits AT_ONCE and the line that brought them.
Part = tuple[int, str]
AT_ONCE = -1


@dataclass(eq=False)
class Piece:
    """What one line brings at one moment."""

    line: Line
    part: Part
    worth: Fraction
    never_began: bool = False
    left: Fraction = Fraction(0)


def standing(facts: Facts, of: str, now: int, also: Iterable[Dispute] = ()) -> list[Return]:
    """Money that was returned by now and has not come back, oldest first; `also`: as if these disputes were lost."""
    found = [
        back
        for back in facts.returns
        if back.of == of and back.at <= now and not (back.undone_at is not None and back.undone_at <= now)
    ]
    found += [
        Return(dispute.id, of, dispute.opened_at, dispute.amount)
        for dispute in facts.disputes
        if dispute.of == of and dispute not in also and dispute.is_lost and (dispute.closed_at or 0) <= now
    ]
    found.sort(key=lambda back: back.at)
    return found + [Return(d.id, of, d.opened_at, d.amount) for d in also if d.of == of]


def gone(invoice: Invoice, pieces: list[Piece], returns: list[Return]) -> dict[Part, int]:
    """How many credits of each part are gone."""
    by_line: dict[str, int] = defaultdict(int)
    rest = 0
    lost: dict[Line, Fraction] = defaultdict(Fraction)
    for piece in pieces:
        piece.left = piece.worth
    for back in returns:
        for line_id, amount in back.lines.items():
            by_line[line_id] += amount
        rest += back.amount - sum(back.lines.values())
        for line in {piece.line for piece in pieces}:
            own = [piece for piece in pieces if piece.line is line]
            share = 1 - _kept(invoice, line, by_line, rest)
            _take(own, (share - lost[line]) * sum(piece.worth for piece in own), _unused(back.at))
            lost[line] = share
    return _whole(pieces)


def _kept(invoice: Invoice, line: Line, by_line: dict[str, int], rest: int) -> Fraction:
    total, credited, own = invoice.total, sum(by_line.values()), by_line.get(line.id, 0)
    kept = 1 - Fraction(min(rest, total - credited), total - credited) if total > credited else Fraction(1)
    return kept * (max(1 - Fraction(own, line.paid), Fraction(0)) if line.paid > 0 else 1)


def _unused(at: int) -> Callable[[Piece], bool]:
    return lambda piece: piece.never_began or piece.part[0] > at


def _take(pieces: list[Piece], amount: Fraction, is_unused: Callable[[Piece], bool]) -> None:
    for some in ([p for p in pieces if is_unused(p)], [p for p in pieces if not is_unused(p)]):
        whole = sum((piece.left for piece in some), Fraction(0))
        if not whole:
            continue
        part = amount / whole if abs(amount) < abs(whole) else Fraction(1)
        for piece in some:
            piece.left *= 1 - part
        amount -= whole * part


def _whole(pieces: list[Piece]) -> dict[Part, int]:
    exact: dict[Part, Fraction] = defaultdict(Fraction)
    for piece in pieces:
        exact[piece.part] += piece.worth - piece.left
    found: dict[Part, int] = {}
    so_far = Fraction(0)
    for part in sorted(exact):
        found[part] = math.floor(so_far + exact[part]) - math.floor(so_far)
        so_far += exact[part]
    return found
