"""Facts and spends of one account → its credits at a moment, by the rules and by plain arithmetic.

Written from the rules, not from the SQL. Everything happens in the order of time: at each moment at which something
may change, what is due is compared with what was granted, money that was returned is taken, and then the app spends.

A net below zero is first set against what else the subscription gets at that moment, then taken of what is unspent of
its paid credits for that slot or later, lapsed ones included, and the rest is carried whole: its price lies on the
customer's balance. So is what money takes of an invoice beyond all that is left to take of it, because time that was
given back took it before. What is carried reduces what invoices pay for later, never free or initial credits, trials or
packs of a Checkout Session. What waits neither gives nor takes before it comes.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from simulator.oracle import free
from simulator.oracle.facts import (
    DAY,
    Dispute,
    Facts,
    Invoice,
    Line,
    Price,
    Sale,
    date_of,
    months_after,
)
from simulator.oracle.ledger import Ledger, Lot
from simulator.oracle.overage import Overages
from simulator.oracle.returns import AT_ONCE, Part, Piece, gone, standing
from simulator.oracle.spends import MORE_THAN_HELD, NOT_ENOUGH, Budget, Spend, Tree
from simulator.oracle.worth import Share, Worth, bucket, expiry

WAITING = ("paused", "unpaid", "incomplete", "incomplete_expired")
# The item of an account's group of shares: (subscription, moment) → item.
Group = tuple[str, int]


@dataclass(frozen=True)
class Rules:
    """The settings that the rules name."""

    initial_credits_per: str = "product"
    one_trial_per: str = "product"


class Oracle:
    """`outcomes`: of each spend by now the credits that it took, or the code that refused it."""

    def __init__(
        self,
        facts: Facts,
        spends: Sequence[Spend] = (),
        rules: Rules | None = None,
        budgets: Sequence[Budget] = (),
    ) -> None:
        self.facts = facts
        self.spends = sorted(spends, key=lambda spend: spend.at)
        self.rules = rules or Rules()
        self.worth = Worth(facts)
        self.ledger = Ledger()
        self.budgets = Tree(budgets)
        self.overages = Overages(facts, self.ledger)
        self.outcomes: list[int | str] = []
        self._free: list[free.Grant] = []
        self.now = 0
        self._released: set[Share] = set()
        # (subscription, moment) → item → granted so far; and what was asked for below zero.
        self._granted: dict[Group, dict[str, int]] = defaultdict(dict)
        self._below: dict[Group, int] = defaultdict(int)
        self._claims: dict[tuple[str, object], int] = defaultdict(int)
        self._initial: dict[str, tuple[Line, Lot]] = {}
        self._trials: set[str] = set()
        self._seen_trials: set[tuple[str, int]] = set()
        self._packs: dict[str, Lot] = {}
        self._slots_begun: set[tuple[str, int]] = set()
        # What money ever goes back of, or is disputed.
        self._returned = {back.of for back in (*facts.returns, *facts.disputes)}
        # How many credits are gone of a slot that returned money paid for, by moment and item.
        self._cuts: dict[Part, int] = defaultdict(int)
        # How much was asked back of a slot, a pack or initial credits; what of it was taken, and what could not be.
        self._gone: dict[str, int] = defaultdict(int)
        self._taken: dict[str, list[tuple[Lot, int]]] = defaultdict(list)
        self._short: dict[str, list[tuple[Lot, int]]] = defaultdict(list)
        # What it had been granted less for what is carried, and is carried again.
        self._again: dict[str, list[tuple[Lot, int]]] = defaultdict(list)
        self._carried_for: dict[str, int] = defaultdict(int)

    def at(self, now: int) -> Ledger:
        """The account's credits at a moment."""
        self._free = sorted(free.grants(self.facts, now), key=lambda grant: grant.at)
        for moment in [*sorted(moment for moment in self._moments() if moment <= now), now]:
            while (end := self.overages.next_end) is not None and end < moment:
                self._step(end)
            self._step(moment)
        return self.ledger

    @property
    def shortfall(self) -> int:
        """What was asked back because money was returned, and could not be taken."""
        return sum(part for short in self._short.values() for _, part in short)

    def _moments(self) -> set[int]:
        facts = self.facts
        found = {share.moment for share in self.worth.shares}
        found |= {invoice.paid_at for invoice in facts.invoices} | {sale.paid_at for sale in facts.sales}
        found |= {state.since for sub in facts.subscriptions.values() for state in sub.states}
        for back in facts.returns:
            found |= {back.at, back.at if back.undone_at is None else back.undone_at}
        for dispute in facts.disputes:
            found |= {
                dispute.opened_at,
                dispute.opened_at if dispute.closed_at is None else dispute.closed_at,
            }
        found |= {grant.at for grant in self._free}
        return found | {spend.at for spend in self.spends}

    def _step(self, now: int) -> None:
        self.now = now
        self.ledger.lapse(now)
        self.overages.judge(now)
        self._give_free()
        self._give_initial()
        self._give_trials()
        self._give_packs()
        # Before slots that waited come: what money took goes of them first.
        self._settle_returns()
        self._settle_claims()
        self._settle_slots()
        self._freeze()
        self.ledger.repay()
        while self.spends and self.spends[0].at <= now:
            self.outcomes.append(self._spend(self.spends.pop(0)))

    # What the app spends

    def _spend(self, spend: Spend) -> int | str:
        """The credits that it takes, or why it takes none: too few, the account's cap, then a budget."""
        if spend.was_allowed:
            return self._charge(spend, spend.amount)
        work, amount, owes = spend.work, spend.amount, self.overages.limit(spend.at)
        if work is not None:
            amount = work.operation.cost(work.used)
            if work.held is not None:
                held = work.operation.cost(work.held)
                refusal = self._refusal(spend, held, 0)
                if refusal is None and amount > held and work.policy == "refuse":
                    refusal = MORE_THAN_HELD
                if refusal is not None:
                    return refusal
                return self._charge(spend, min(amount, held) if work.policy == "clip" else amount)
        return self._refusal(spend, amount, owes) or self._charge(spend, amount)

    def _refusal(self, spend: Spend, amount: int, owes: int) -> str | None:
        if amount and amount > self.ledger.balance - self.ledger.frozen + owes:
            return NOT_ENOUGH
        return self.budgets.refusal(spend.actor, amount, spend.at) if amount else None

    def _charge(self, spend: Spend, amount: int) -> int:
        self.budgets.charged.append((spend.at, spend.actor, amount))
        self.ledger.spend(amount, spend.at)
        return amount

    # What time gives and takes

    def _is_due(self, share: Share) -> bool:
        return share.moment <= self.now and share.known_at <= self.now and self._is_reached(share)

    def _waits(self, share: Share) -> bool:
        """Whether what a line adds waits for its subscription's recovery, or for a dispute of its invoice."""
        if share.is_first or share.gives_back or share in self._released:
            return False
        state = self.facts.subscriptions[share.subscription].at(self.now)
        return state.status in WAITING or state.is_collection_paused or self._is_contested(share.invoice)

    def _is_contested(self, invoice: Invoice) -> bool:
        """Whether an open dispute asks for money that has not gone back yet."""
        if not any(dispute.of == invoice.id and self._is_open(dispute) for dispute in self.facts.disputes):
            return False
        return sum(back.amount for back in standing(self.facts, invoice.id, self.now)) < invoice.total

    def _is_reached(self, share: Share) -> bool:
        """Whether its slot begins before the subscription ends, or is cancelled where that stops credits.

        The first slot of a line that was paid always counts, also if it is given back.
        """
        if share.at_once:
            return True
        state = self.facts.subscriptions[share.subscription].at(self.now)
        began = share.slot[0]
        if state.ended_at is not None and began >= state.ended_at:
            return began <= share.granted_from
        stops = share.price.term("credits_on_cancel", share.moment) == "stop"
        return share.is_first or not stops or state.canceled_at is None or began < state.canceled_at

    def _is_open(self, dispute: Dispute) -> bool:
        return dispute.opened_at <= self.now and (dispute.closed_at is None or dispute.closed_at > self.now)

    def _amounts(self, shares: list[Share]) -> dict[str, int]:
        """What each item gets at one moment: added up exactly, rounded down, and less what money took in advance.

        Changes that give nothing make up for what is given back, before anything is rounded.
        """
        exact: dict[str, Fraction] = defaultdict(Fraction)
        given_back = -sum(share.credits for share in shares if share.gives_back and share.is_change)
        not_counted = sum(share.credits for share in shares if self._is_not_counted(share))
        made_up_for = Fraction(min(given_back, not_counted), given_back) if given_back else Fraction(0)
        for share in shares:
            policy = share.price.term("credits_on_proration", share.moment, "delta")
            if self._is_not_counted(share):
                exact[share.item] += 0
            elif share.gives_back and share.is_change:
                exact[share.item] += share.credits * (1 - made_up_for)
            else:
                exact[share.item] += self._counted(share, policy)
        amounts = {item: math.floor(amount) for item, amount in exact.items()}
        for item in amounts:
            amounts[item] -= self._cuts[shares[0].moment, item]
        return self._set_off(amounts)

    def _counted(self, share: Share, policy: str) -> Fraction:
        if policy != "full" or share.gives_back or not share.is_change:
            return share.credits
        earlier = [
            other
            for other in self.worth.shares
            if other.known_at <= self.now
            and other.is_change
            and not other.gives_back
            and not other.is_free
            and (other.subscription, other.price.id, other.slot[0])
            == (share.subscription, share.price.id, share.slot[0])
            and other.moment < share.moment
        ]
        if earlier:
            return share.credits
        start, end = share.slot
        return share.credits + share.whole * Fraction(share.moment - start, end - start)

    def _given(self, share: Share) -> Fraction:
        """What a share comes to, as far as it is known, by the plan's policy on changes; of what was paid for."""
        if share.is_free or share.known_at > self.now:
            return Fraction(0)
        if share.gives_back:
            return share.credits
        if self._is_not_counted(share):
            return share.credits * self._made_up_for(share)
        return self._counted(share, share.price.term("credits_on_proration", share.moment, "delta"))

    @staticmethod
    def _is_not_counted(share: Share) -> bool:
        policy = share.price.term("credits_on_proration", share.moment, "delta")
        return share.is_change and not share.gives_back and policy == "none"

    def _made_up_for(self, share: Share) -> Fraction:
        """Which share of changes that give nothing makes up for what their invoice gives back at that moment."""
        together = [
            other
            for other in self.worth.shares
            if (other.invoice, other.subscription, other.moment)
            == (share.invoice, share.subscription, share.moment)
            and other.is_change
            and not other.is_free
            and other.known_at <= self.now
        ]
        given_back = -sum(other.credits for other in together if other.gives_back)
        not_counted = sum(other.credits for other in together if self._is_not_counted(other))
        return Fraction(min(given_back, not_counted), not_counted)

    @staticmethod
    def _set_off(amounts: dict[str, int]) -> dict[str, int]:
        """Below zero is first set against what other items get."""
        below = -sum(amount for amount in amounts.values() if amount < 0)
        left: dict[str, int] = {}
        for item in sorted(amounts):
            amount = max(amounts[item], 0)
            part = min(below, amount)
            below -= part
            left[item] = amount - part
        return left | {"": -below}

    def _settle_slots(self) -> None:
        due: dict[Group, list[Share]] = defaultdict(list)
        came = [share for share in self.worth.shares if not share.is_free and self._is_due(share)]
        # A month of an item waits as a whole: with the line that was bought last.
        payers: dict[tuple[str, int], Share] = {}
        for share in sorted((share for share in came if not share.gives_back), key=_bought):
            payers[share.item, share.moment] = share
        for share in came:
            payer = payers.get((share.item, share.moment))
            if payer is None or not self._waits(payer):
                self._released.add(share)
                due[share.subscription, share.moment].append(share)
        for group in sorted(due, key=lambda group: (group[1], group[0])):
            self._post(group, due[group])

    def _post(self, group: Group, shares: list[Share]) -> None:
        amounts = self._amounts(shares)
        below = -amounts.pop("")
        granted = self._granted[group]
        # What becomes more comes first: what becomes less is set against it, before later months.
        for item, amount in sorted(amounts.items(), key=lambda it: (it[1] < granted.get(it[0], 0), it[0])):
            more = amount - granted.get(item, 0)
            key, own = f"{item} {group[1]}", [share for share in shares if share.item == item]
            if more > 0:
                more = self._bring_back(key, more)
                if more:
                    self._open(group, item, more, own)
            elif more < 0 and self._cuts[group[1], item] > 0:
                mine = [lot for lot in self.ledger.lots if (lot.item, lot.moment) == (item, group[1])]
                payer = max((s for s in own if not s.gives_back), key=_bought).invoice
                self._take_gone(key, -more, mine, self._lots_of(payer.id))
            elif more < 0:
                slot = max(share.slot[0] for share in own)
                self._take_back(key, -more, self._lots_from(group, slot, {item}, item))
            granted[item] = amount
        more = below - self._below[group]
        self._below[group] = below
        key = f"credited {group}"
        if more > 0 and any(share.gives_back for share in shares):
            cut = min(share.slot[0] for share in shares if share.gives_back)
            keeps = [s for s in shares if s.gives_back and self._keeps(s)]
            if not keeps:
                own_items = {share.item for share in shares if share.gives_back}
                self._take_back(key, more, self._lots_from(group, cut, own_items))
        elif more < 0:
            self.ledger.give_less_reduced(self._bring_back(key, -more), self.now)

    def _lots_from(self, group: Group, slot: int, items: set[str], own: str | None = None) -> list[Lot]:
        """A subscription's lots of a slot and of later ones, in the order in which they are taken from.

        First the item's own of this moment, then what has begun by then, of these items first and the latest first.
        """
        subscription, moment = group
        lots = [
            lot
            for lot in self.ledger.lots
            if lot.subscription == subscription and lot.slot >= slot and lot.kind == "monthly"
        ]
        return sorted(
            lots,
            key=lambda lot: (
                (lot.item, lot.moment) != (own, moment),
                lot.moment > moment,
                lot.item not in items,
                -lot.moment,
                -lot.number,
            ),
        )

    @staticmethod
    def _keeps(share: Share) -> bool:
        return share.price.term("credits_on_downgrade", share.moment, "take_back") == "keep"

    def _take_back(self, key: str, amount: int, lots: list[Lot]) -> None:
        """What is unspent of lots, lapsed credits included, is taken; all else is carried."""
        taken = self.ledger.take(lots, amount)
        self._taken[key].extend(taken)
        amount -= sum(part for _, part in taken)
        self._carried_for[key] += amount
        self.ledger.carried += amount

    def _open(self, group: Group, item: str, amount: int, shares: list[Share]) -> None:
        adding = [share for share in shares if not share.gives_back]
        last = max(adding, key=_bought)
        self._cap(last, item)
        lot = Lot(
            "monthly",
            amount,
            0,
            0,
            expires_at=expiry(last),
            subscription=group[0],
            item=item,
            slot=last.slot[0],
            moment=group[1],
            paid_at=last.known_at,
            paid_with={last.invoice.id},
        )
        self.ledger.grant(lot, self.now, less_carried=True)

    def _cap(self, share: Share, item: str) -> None:
        """A slot begins: at most so many unspent credits of earlier slots are carried into it."""
        rule, _, number = share.price.term("credits_rollover", share.moment, "all").partition(":")
        if rule != "cap" or (item, share.slot[0]) in self._slots_begun:
            return
        self._slots_begun.add((item, share.slot[0]))
        began = share.slot[0]
        earlier = [
            lot for lot in self.ledger.lots if lot.item == item and lot.slot < began and lot.paid_at <= began
        ]
        over = sum(lot.remaining for lot in earlier) - int(number)
        for lot in earlier:
            part = min(max(over, 0), lot.remaining)
            lot.remaining -= part
            lot.lapsed += part
            over -= part

    # What comes once

    def _settle_claims(self) -> None:
        """What nothing was paid for: once for each product and calendar slot, the largest counts.

        Lines of one purchase, such as tiers, are one claim.
        """
        claims: dict[object, list[Share]] = defaultdict(list)
        for share in self.worth.shares:
            if share.is_free and self._is_due(share) and not self._waits(share):
                self._released.add(share)
                claims[share.invoice, share.item, share.line.start, share.moment].append(share)
        for shares in claims.values():
            share = shares[-1]
            key = (share.price.product, bucket(share))
            policy = share.price.term("credits_on_proration", share.moment, "delta")
            counts = not share.is_change or policy != "none"
            amount = math.floor(sum(share.credits for share in shares)) if counts else 0
            more = amount - self._claims[key]
            if more > 0:
                self._claims[key] = amount
                self._cap(share, share.item)
                lot = Lot(
                    "free",
                    more,
                    0,
                    0,
                    expires_at=expiry(share),
                    subscription=share.subscription,
                    item=share.item,
                    slot=share.slot[0],
                    paid_at=share.known_at,
                )
                self.ledger.grant(lot, self.now, less_carried=False)

    def _give_free(self) -> None:
        while self._free and self._free[0].at <= self.now:
            grant = self._free.pop(0)
            lot = Lot("free_credits", grant.rule.credits, 0, 0, expires_at=grant.expires_at)
            self.ledger.grant(lot, self.now, less_carried=False)

    def _give_initial(self) -> None:
        known = [
            paid
            for paid in self.worth.adding
            if paid.invoice.paid_at <= self.now
            and not paid.line.is_proration
            and not self.worth.is_trial(paid.line)
        ]
        for paid in sorted(known, key=lambda paid: (paid.line.start, paid.order)):
            key = paid.price.product if self.rules.initial_credits_per == "product" else ""
            credits = paid.price.credits("initial_credits", paid.line.start)
            if key in self._initial or not credits:
                continue
            lot = Lot("initial", credits, 0, 0, paid_with={paid.invoice.id})
            # Of the lines of an item, such as tiers, one stands for them all: a free one, if there is one.
            together = [
                other.line
                for other in known
                if (other.invoice, other.line.item) == (paid.invoice, paid.line.item)
            ]
            self._initial[key] = (min(together, key=lambda line: (line.paid > 0, line.id)), lot)
            self.ledger.grant(lot, self.now, less_carried=False)

    def _give_trials(self) -> None:
        for subscription in self.facts.subscriptions.values():
            state = subscription.at(self.now)
            if state.status != "trialing" or state.since > self.now or state.trial_start is None:
                continue
            if (subscription.id, state.trial_start) in self._seen_trials:
                continue
            self._seen_trials.add((subscription.id, state.trial_start))
            for price in (self.facts.prices[price_id] for price_id in state.prices):
                credits = price.credits("trial_credits", state.trial_start)
                key = price.product if self.rules.one_trial_per == "product" else ""
                if not credits or key in self._trials:
                    continue
                self._trials.add(key)
                end = max((s.trial_end or 0) for s in subscription.states if s.since <= self.now)
                keeps = price.term("trial_credits_end", state.trial_start) == "keep"
                lot = Lot("trial", credits, 0, 0, expires_at=None if keeps else end)
                lot.subscription = subscription.id
                self.ledger.grant(lot, self.now, less_carried=False)
        for lot in self.ledger.lots:
            if lot.kind == "trial" and lot.expires_at is not None and lot.subscription is not None:
                end = self.facts.subscriptions[lot.subscription].at(self.now).trial_end
                lot.expires_at = end
        self.ledger.lapse(self.now)

    def _give_packs(self) -> None:
        for sale in self.facts.sales:
            for number, (price, quantity, amount) in enumerate(sale.packs):
                if sale.paid_at <= self.now:
                    self._give_pack(f"{sale.id}/{number}", price, quantity, amount, sale.paid_at, sale)
        for invoice in self.facts.invoices:
            for line in invoice.lines:
                if (
                    invoice.paid_at <= self.now
                    and line.item is None
                    and line.price is not None
                    and line.amount >= 0
                ):
                    self._give_pack(line.id, line.price, line.quantity, line.paid, invoice.paid_at, invoice)

    def _give_pack(
        self, key: str, price: Price, quantity: int, paid: int, paid_at: int, of: Sale | Invoice
    ) -> None:
        credits, expires_from = pack_credits(price, quantity, paid, paid_at), paid_at
        if isinstance(of, Sale):
            credits = math.floor(credits * Fraction(of.total, of.asked)) if of.asked else credits
            expires_from = of.charged_at or paid_at
        if key in self._packs or not credits:
            return
        if paid == 0:
            day = date_of(paid_at)
            claim = (price.product, ("pack", day.year, day.month))
            credits, self._claims[claim] = (
                max(credits - self._claims[claim], 0),
                max(credits, self._claims[claim]),
            )
        lot = Lot("pack", credits, 0, 0, expires_at=pack_expiry(price, expires_from), paid_with={of.id})
        self._packs[key] = lot
        self.ledger.grant(lot, self.now, less_carried=isinstance(of, Invoice) and paid > 0)

    # Money back

    def _pieces(self, invoice: Invoice) -> list[Piece]:
        """All that an invoice pays for, as far as it is known."""
        pieces = [
            Piece(share.line, (share.moment, share.item), self._given(share), not self._is_reached(share))
            for share in self.worth.shares
            if share.invoice is invoice and not share.is_free
        ]
        for line, lot in self._initial.values():
            if line in invoice.lines and line.paid:
                pieces.append(Piece(line, (AT_ONCE, str(line.item)), Fraction(lot.declared)))
        for key, lot in self._packs.items():
            line = self._origin(key)[1]
            if line in invoice.lines and line.paid:
                pieces.append(Piece(line, (AT_ONCE, f"pack:{line.id}"), Fraction(lot.declared)))
        return pieces

    def _settle_returns(self) -> None:
        self._cuts.clear()
        for invoice in self.facts.invoices:
            if invoice.paid_at > self.now or invoice.id not in self._returned:
                continue
            returns = standing(self.facts, invoice.id, self.now)
            for (moment, name), amount in gone(invoice, self._pieces(invoice), returns).items():
                if moment == AT_ONCE:
                    key, mine = f"{invoice.id} {name}", self._own_lots(invoice, name)
                    self._settle_gone(key, amount, mine, self._lots_of(invoice.id))
                else:
                    self._cuts[moment, name] += amount
        for key, lot in self._packs.items():
            of, line = self._origin(key)
            if line is None:
                self._settle_gone(key, self._gone_of_sale(of, lot), [lot], [])

    def _own_lots(self, invoice: Invoice, name: str) -> list[Lot]:
        """What the initial credits or the pack itself were granted as: each loses its own first."""
        packs = [lot for key, lot in self._packs.items() if f"pack:{key}" == name]
        initial = [
            lot for line, lot in self._initial.values() if line in invoice.lines and str(line.item) == name
        ]
        return packs + initial

    def _gone_of_sale(self, sale: Sale | Invoice, lot: Lot, also: Sequence[Dispute] = ()) -> int:
        back = sum(back.amount for back in standing(self.facts, sale.id, self.now, also))
        return math.floor(Fraction(lot.declared * min(back, sale.total), sale.total)) if sale.total else 0

    def _settle_gone(self, key: str, amount: int, mine: list[Lot], of_payment: list[Lot]) -> None:
        """What is gone of initial credits or a pack by now."""
        before, self._gone[key] = self._gone[key], amount
        if amount > before:
            self._take_gone(key, amount - before, mine, of_payment)
        elif amount < before:
            self.ledger.give_less_reduced(self._bring_back(key, before - amount), self.now)

    def _take_gone(self, key: str, amount: int, mine: list[Lot], of_payment: list[Lot]) -> None:
        """What is unspent is taken, its own first; what was granted less for what is carried is carried again.

        What was spent is short; the rest was taken before, for time that was given back. The price of that lies on the
        customer's balance although the money was returned: it is carried.
        """
        lots = mine + [lot for lot in of_payment if lot not in mine]
        taken = self.ledger.take(lots, amount)
        self._taken[key].extend(taken)
        amount -= sum(part for _, part in taken)
        for lot in mine:
            part = min(amount, lot.kept_back)
            lot.again += part
            self.ledger.carried += part
            self._again[key].append((lot, part))
            amount -= part
        for lot in lots:
            part = min(amount, lot.granted - lot.asked)
            lot.asked += part
            self._short[key].append((lot, part))
            amount -= part
        self._carried_for[key] += amount
        self.ledger.carried += amount

    def _lots_of(self, payment: str) -> list[Lot]:
        lots = [lot for lot in self.ledger.lots if payment in lot.paid_with]
        return sorted(lots, key=lambda lot: (-lot.slot, -lot.number))

    def _bring_back(self, key: str, amount: int) -> int:
        """Money came back: nothing is carried for it, nothing more is asked for, and the last taken comes back.

        What is left is to be granted: nothing was taken for it, or later credits were less for it.
        """
        carried = min(self._carried_for[key], amount)
        self._carried_for[key] -= carried
        spared = min(carried, self.ledger.carried)
        self.ledger.carried -= spared
        amount -= carried
        for asked, is_taken in ((self._short[key], False), (self._taken[key], True)):
            while amount and asked:
                lot, part = asked.pop()
                back = min(part, amount)
                lot.asked -= back
                if is_taken:
                    self.ledger.put(lot, back, self.now)
                amount -= back
                if back < part:
                    asked.append((lot, part - back))
        for lot, part in self._again.pop(key, []):
            back = min(part, amount, self.ledger.carried)
            lot.again -= back
            self.ledger.carried -= back
            amount -= back
            self._again[key].append((lot, part - back))
        return amount + carried - spared

    def _origin(self, key: str) -> tuple[Sale | Invoice, Line | None]:
        for sale in self.facts.sales:
            if key.startswith(f"{sale.id}/"):
                return sale, None
        for invoice in self.facts.invoices:
            for line in invoice.lines:
                if line.id == key:
                    return invoice, line
        raise KeyError(key)

    def _freeze(self) -> None:
        """Open disputes hold what would go if they were lost, of what has begun."""
        for lot in self.ledger.lots:
            lot.frozen = 0
        for invoice in self.facts.invoices:
            contested = [d for d in self.facts.disputes if d.of == invoice.id and self._is_open(d)]
            if not contested or invoice.paid_at > self.now:
                continue
            pieces, begun = self._pieces(invoice), max(self.now, min(line.start for line in invoice.lines))
            with_them = gone(invoice, pieces, standing(self.facts, invoice.id, self.now, contested))
            without = gone(invoice, pieces, standing(self.facts, invoice.id, self.now))
            more = sum(amount - without[part] for part, amount in with_them.items() if part[0] <= begun)
            self._hold(more, self._lots_of(invoice.id))
        for key, lot in self._packs.items():
            of, line = self._origin(key)
            contested = [d for d in self.facts.disputes if d.of == of.id and self._is_open(d)]
            if contested and line is None:
                more = self._gone_of_sale(of, lot, contested) - self._gone_of_sale(of, lot)
                self._hold(more, [lot])

    @staticmethod
    def _hold(amount: int, lots: list[Lot]) -> None:
        for lot in lots:
            part = min(max(amount, 0), lot.remaining - lot.frozen)
            lot.frozen += part
            amount -= part


def _bought(share: Share) -> tuple[int, int]:
    """When a line was bought: the last one pays for what an item gets at a moment."""
    return share.line.start, share.known_at


def pack_credits(price: Price, quantity: int, paid: int, paid_at: int) -> int:
    """What a pack declares; of an amount that the payer chose, by the whole unit of the currency."""
    if price.is_custom_amount:
        unit = 1 if price.currency in ("jpy", "krw") else 100
        return math.floor(Fraction(price.term("credits_per_unit", paid_at, "0")) * paid / unit)
    return price.credits("pack_credits", paid_at) * quantity


def pack_expiry(price: Price, paid_at: int) -> int | None:
    declared = price.term("pack_expires_after", paid_at)
    if not declared:
        return None
    number, unit = declared.split()
    if unit.startswith("day"):
        return paid_at + int(number) * DAY
    return months_after(paid_at, int(number) * (12 if unit.startswith("year") else 1))
