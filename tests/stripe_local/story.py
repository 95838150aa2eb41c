"""Everything that can happen in a shop, by Stripe's own API: the material of the conformance check."""

import contextlib
import time
from typing import Any

import stripe

DAY = 86_400


def tell(local: Any) -> None:
    """After it every kind of object and nearly every kind of event is there."""
    c = local.client
    monthly, yearly = local.price(2000, lookup_key="pro"), local.price(20000, "year")
    pack = local.price(900, None)
    _catalog(c, monthly)
    customer = local.customer()
    _payments(local, c, customer)
    _subscriptions(local, c, customer, monthly, yearly)
    _checkout(local, c, monthly, pack)
    _clock(local, c, monthly)
    _pages(c, customer, monthly)
    _schedules(local, c, monthly, yearly)
    _taxes(local, c, monthly, pack)
    _debits(local, c)


def _catalog(c: Any, monthly: Any) -> None:
    c.products.update(monthly.product, {"description": "All of it", "metadata": {"tier": "1"}})
    c.prices.update(monthly.id, {"nickname": "Monthly"})
    c.prices.create(
        {
            "currency": "eur",
            "product_data": {"name": "Tiers"},
            "recurring": {"interval": "month"},
            "billing_scheme": "tiered",
            "tiers_mode": "graduated",
            "tiers": [
                {"up_to": 5, "unit_amount": 100},
                {"up_to": "inf", "unit_amount": 80, "flat_amount": 10},
            ],
        }
    )
    gone = c.products.create({"name": "Gone"})
    c.products.delete(gone.id)
    coupon = c.coupons.create({"percent_off": 25, "duration": "repeating", "duration_in_months": 2})
    c.coupons.update(coupon.id, {"name": "Quarter"})
    code = c.promotion_codes.create({"promotion": {"type": "coupon", "coupon": coupon.id}, "code": "SPRING"})
    c.promotion_codes.update(code.id, {"metadata": {"a": "b"}})
    c.coupons.delete(c.coupons.create({"amount_off": 100, "currency": "usd"}).id)
    c.webhook_endpoints.create({"url": "http://127.0.0.1:9/x", "enabled_events": ["charge.expired"]})


def _payments(local: Any, c: Any, customer: Any) -> None:
    def pay(card: str, **more: Any) -> Any:
        return c.payment_intents.create(
            {
                "amount": 1500,
                "currency": "usd",
                "customer": customer.id,
                "payment_method": card,
                "confirm": True,
            }
            | more
        )

    paid = pay("pm_card_visa")
    c.refunds.create({"payment_intent": paid.id, "amount": 500, "metadata": {"why": "half"}})
    pay("pm_card_createIssuerFraudRecord")
    review = c.reviews.retrieve(c.charges.retrieve(pay("pm_card_riskLevelElevated").latest_charge).review)
    c.reviews.approve(review.id)
    for card in ("pm_card_createDispute", "pm_card_createDisputeInquiry"):
        charge = pay(card).latest_charge
        dispute = next(d for d in c.disputes.list({"charge": charge}).data)
        c.disputes.update(dispute.id, {"evidence": {"uncategorized_text": "winning_evidence"}})
    for card in ("pm_card_visa_chargeDeclined", "pm_card_riskLevelHighest"):
        with contextlib.suppress(stripe.CardError):
            pay(card)
    waiting = pay("pm_card_authenticationRequired")
    local.control(f"payment_intents/{waiting.id}/authenticate")
    held = pay("pm_card_visa", capture_method="manual")
    c.payment_intents.capture(held.id, {"amount_to_capture": 700})
    c.payment_intents.cancel(c.payment_intents.create({"amount": 900, "currency": "eur"}).id)
    setup = c.setup_intents.create({"customer": customer.id, "payment_method": "pm_card_mastercard"})
    c.setup_intents.confirm(setup.id)
    c.setup_intents.cancel(c.setup_intents.create({"description": "later"}).id)
    refund = c.refunds.create({"payment_intent": pay("pm_card_refundFail").id})
    local.control(f"refunds/{refund.id}/settle", {"succeeds": False})
    method = c.payment_methods.create({"type": "card", "card": {"token": "tok_visa"}})
    c.payment_methods.attach(method.id, {"customer": customer.id})
    c.payment_methods.detach(method.id)
    c.charges.create({"amount": 1000, "currency": "usd", "source": "tok_visa"})


def _subscriptions(local: Any, c: Any, customer: Any, monthly: Any, yearly: Any) -> None:
    coupon = c.coupons.create({"percent_off": 10, "duration": "once"})
    order = {"customer": customer.id, "items": [{"price": monthly.id}], "metadata": {"plan": "pro"}}
    sub = c.subscriptions.create(order | {"discounts": [{"coupon": coupon.id}]})
    item = sub["items"].data[0].id
    c.subscriptions.update(
        sub.id, {"items": [{"id": item, "quantity": 3}], "proration_behavior": "always_invoice"}
    )
    c.subscriptions.update(sub.id, {"items": [{"id": item, "price": yearly.id}]})
    c.subscriptions.update(sub.id, {"cancel_at_period_end": True})
    c.subscriptions.update(sub.id, {"pause_collection": {"behavior": "void"}})
    c.subscriptions.update(sub.id, {"pause_collection": "", "cancel_at_period_end": False})
    c.subscriptions.pause(sub.id, {"type": "subscription"})
    c.subscriptions.resume(sub.id)
    c.subscriptions.cancel(sub.id, {"prorate": True})
    c.subscriptions.create(order | {"trial_period_days": 2})
    c.subscriptions.create(order | {"collection_method": "send_invoice", "days_until_due": 7})
    incomplete = c.subscriptions.create(order | {"payment_behavior": "default_incomplete"})
    invoice = c.invoices.retrieve(incomplete.latest_invoice)
    c.invoices.void_invoice(invoice.id)
    c.invoice_items.create(
        {"customer": customer.id, "amount": 350, "currency": "usd", "description": "Set-up"}
    )
    draft = c.invoices.create({"customer": customer.id, "pending_invoice_items_behavior": "include"})
    c.invoices.pay(draft.id)
    c.invoice_items.create({"customer": customer.id, "amount": 99, "currency": "usd"})
    other = c.invoices.create({"customer": customer.id, "pending_invoice_items_behavior": "include"})
    c.invoices.finalize_invoice(other.id)
    note = c.credit_notes.create({"invoice": other.id, "amount": 9, "memo": "sorry"})
    c.credit_notes.void_credit_note(note.id)
    c.invoices.mark_uncollectible(other.id)
    paid = {"invoice": draft.id, "refund_amount": 100, "credit_amount": 20}
    c.credit_notes.create(paid | {"lines": [{"type": "custom_line_item", "unit_amount": 120, "quantity": 1}]})
    billed = c.subscriptions.create(order | {"discounts": [{"coupon": _half_off(c)}]}).latest_invoice
    line = {"type": "invoice_line_item", "invoice_line_item": c.invoices.retrieve(billed).lines.data[0].id}
    c.credit_notes.create({"invoice": billed, "lines": [line | {"amount": 400}], "refund_amount": 200})
    c.credit_notes.create(
        {"invoice": billed, "lines": [line | {"quantity": 1, "amount": 100}], "out_of_band_amount": 50}
    )
    itemized = {"type": "flexible", "flexible": {"proration_discounts": "itemized"}}
    shown = c.subscriptions.create(
        order | {"discounts": [{"coupon": _half_off(c)}], "billing_mode": itemized}
    )
    for behavior in ("create_prorations", "always_invoice"):
        items = [{"id": shown["items"].data[0].id, "quantity": 2 if behavior == "always_invoice" else 3}]
        c.subscriptions.update(shown.id, {"items": items, "proration_behavior": behavior})
    c.invoices.create_preview({"subscription": c.subscriptions.list().data[0].id})
    del local


def _half_off(c: Any) -> str:
    return c.coupons.create({"percent_off": 50, "duration": "forever"}).id


def _checkout(local: Any, c: Any, monthly: Any, pack: Any) -> None:
    urls = {"success_url": "http://127.0.0.1/ok"}
    plan = {"line_items": [{"price": monthly.id, "quantity": 1}], "mode": "subscription", **urls}
    session = c.checkout.sessions.create(
        plan | {"allow_promotion_codes": True, "client_reference_id": "user-1"}
    )
    local.control(
        f"checkout_sessions/{session.id}/complete", {"email": "anna@example.com", "promotion_code": "SPRING"}
    )
    once = {"line_items": [{"price": pack.id, "quantity": 2}], "mode": "payment", **urls}
    for more in ({}, {"invoice_creation": {"enabled": True}}, {"customer_creation": "always"}):
        session = c.checkout.sessions.create(once | more)
        local.control(f"checkout_sessions/{session.id}/complete")
    delayed = c.checkout.sessions.create(once)
    local.control(f"checkout_sessions/{delayed.id}/complete", {"delayed": True})
    local.control(f"checkout_sessions/{delayed.id}/settle")
    held = c.checkout.sessions.create(once | {"payment_intent_data": {"capture_method": "manual"}})
    c.payment_intents.capture(local.control(f"checkout_sessions/{held.id}/complete")["payment_intent"])
    beside = {"line_items": [*plan["line_items"], *once["line_items"]]}
    session = c.checkout.sessions.create(plan | beside)
    local.control(f"checkout_sessions/{session.id}/complete", {"email": "bea@example.com"})
    custom = {
        "product": pack.product,
        "currency": "usd",
        "custom_unit_amount": {"enabled": True, "minimum": 500},
    }
    chosen = [{"price": c.prices.create(custom).id, "quantity": 1}]
    session = c.checkout.sessions.create(once | {"line_items": chosen})
    local.control(f"checkout_sessions/{session.id}/complete", {"custom_amount": 2500})
    setup = c.checkout.sessions.create({"mode": "setup", "currency": "usd", **urls})
    local.control(f"checkout_sessions/{setup.id}/complete")
    c.checkout.sessions.expire(c.checkout.sessions.create(once).id)
    embedded = {key: value for key, value in plan.items() if key != "success_url"}
    c.checkout.sessions.create(embedded | {"ui_mode": "embedded_page", "return_url": "http://127.0.0.1/"})
    link = c.payment_links.create(
        {
            "line_items": [{"price": monthly.id, "quantity": 1}],
            "automatic_tax": {"enabled": True},
            "custom_fields": [
                {"key": "vat", "label": {"type": "custom", "custom": "VAT number"}, "type": "text"},
                {
                    "key": "size",
                    "label": {"type": "custom", "custom": "Size"},
                    "type": "dropdown",
                    "dropdown": {
                        "options": [{"label": "Small", "value": "s"}, {"label": "Large", "value": "l"}]
                    },
                },
            ],
        }
    )
    local.control(f"payment_links/{link.id}/complete", {"client_reference_id": "user-2"})
    limited = c.payment_links.create(
        {
            "line_items": [{"price": pack.id, "quantity": 1}],
            "restrictions": {"completed_sessions": {"limit": 1}},
        }
    )
    local.control(f"payment_links/{limited.id}/complete", {"client_reference_id": "user-3"})


def _clock(local: Any, c: Any, monthly: Any) -> None:
    start = int(time.time())
    clock = c.test_helpers.test_clocks.create({"frozen_time": start, "name": "a year"})
    good = local.customer(test_clock=clock.id)
    bad = local.customer("pm_card_chargeCustomerFail", test_clock=clock.id)
    c.subscriptions.create({"customer": good.id, "items": [{"price": monthly.id}]})
    c.subscriptions.create({"customer": bad.id, "items": [{"price": monthly.id}], "trial_period_days": 5})
    for day in (3, 6, 33, 60):
        local.advance(clock.id, start + day * DAY)
    c.customers.delete(good.id)


def _pages(c: Any, customer: Any, monthly: Any) -> None:
    configuration = c.billing_portal.configurations.create(
        {
            "features": {
                "subscription_cancel": {"enabled": True},
                "subscription_update": {
                    "enabled": True,
                    "default_allowed_updates": ["price"],
                    "products": [{"product": monthly.product, "prices": [monthly.id]}],
                },
            },
            "business_profile": {"headline": "The shop"},
        }
    )
    c.billing_portal.configurations.update(configuration.id, {"default_return_url": "http://127.0.0.1/"})
    sub = c.subscriptions.list({"customer": customer.id}).data[0]
    c.billing_portal.sessions.create(
        {
            "customer": customer.id,
            "configuration": configuration.id,
            "flow_data": {"type": "subscription_cancel", "subscription_cancel": {"subscription": sub.id}},
        }
    )
    c.billing_portal.sessions.create({"customer": customer.id, "return_url": "http://127.0.0.1/account"})


def _schedules(local: Any, c: Any, monthly: Any, yearly: Any) -> None:
    clock = c.test_helpers.test_clocks.create({"frozen_time": int(time.time())}).id
    customer = local.customer(test_clock=clock)
    order = {"customer": customer.id, "items": [{"price": monthly.id}]}
    sub = c.subscriptions.create(order | {"billing_cycle_anchor_config": {"day_of_month": 31}})
    schedule = c.subscription_schedules.create({"from_subscription": sub.id})
    now = schedule.phases[0]
    phases = [
        {"items": [{"price": monthly.id}], "start_date": now.start_date, "end_date": now.end_date},
        {"items": [{"price": yearly.id}], "metadata": {"a": "b"}},
    ]
    c.subscription_schedules.update(schedule.id, {"phases": phases, "metadata": {"c": "d"}})
    c.subscription_schedules.release(schedule.id)
    later = {
        "customer": customer.id,
        "start_date": now.end_date,
        "phases": [{"items": [{"price": monthly.id}]}],
    }
    c.subscription_schedules.cancel(c.subscription_schedules.create(later).id)
    method = c.payment_methods.attach("pm_card_chargeCustomerFail", {"customer": customer.id})
    change = {"items": [{"id": sub["items"].data[0].id, "price": yearly.id}]}
    c.subscriptions.update(sub.id, {"default_payment_method": method.id})
    c.subscriptions.update(sub.id, change | {"payment_behavior": "pending_if_incomplete"})


def _taxes(local: Any, c: Any, monthly: Any, pack: Any) -> None:
    customer = local.customer(address={"country": "DE"}, tax_id_data=[{"type": "ch_vat", "value": "CHE-1"}])
    rate = c.tax_rates.create({"display_name": "VAT", "percentage": 20, "inclusive": False, "country": "GB"})
    c.tax_rates.update(rate.id, {"description": "Value added"})
    order = {"customer": customer.id, "items": [{"price": monthly.id, "tax_rates": [rate.id]}]}
    one = {"price": pack.id, "tax_rates": [rate.id]}
    billed = c.subscriptions.create(order | {"add_invoice_items": [one], "default_tax_rates": [rate.id]})
    line = c.invoices.retrieve(billed.latest_invoice).lines.data[0].id
    credited = {"type": "invoice_line_item", "invoice_line_item": line, "amount": 100}
    c.credit_notes.create({"invoice": billed.latest_invoice, "lines": [credited], "credit_amount": 120})
    c.subscriptions.create(order | {"items": [{"price": monthly.id}], "automatic_tax": {"enabled": True}})
    for price, mode in ((pack, "payment"), (monthly, "subscription")):
        session = c.checkout.sessions.create(
            {
                "mode": mode,
                "customer": customer.id,
                "line_items": [{"price": price.id, "quantity": 1}],
                "automatic_tax": {"enabled": True},
                "tax_id_collection": {"enabled": True},
                "customer_update": {"address": "auto", "name": "auto"},
                "consent_collection": {"terms_of_service": "required"},
                "success_url": "http://127.0.0.1/ok",
            }
        )
        local.control(f"checkout_sessions/{session.id}/complete", {"address": {"country": "FR"}})


def _debits(local: Any, c: Any) -> None:
    def pay(method: str, currency: str) -> str:
        order = {"amount": 900, "currency": currency, "payment_method": method, "confirm": True}
        return c.payment_intents.create(order).id

    anna = {"name": "Anna", "email": "anna@example.com"}
    sepa = {"type": "sepa_debit", "sepa_debit": {"iban": "DE89370400440532013000"}, "billing_details": anna}
    paid = pay(c.payment_methods.create(sepa).id, "eur")
    local.control(f"payment_intents/{paid}/settle", {"succeeds": True})
    c.refunds.create({"payment_intent": paid, "amount": 100})
    local.control(f"charges/{c.payment_intents.retrieve(paid).latest_charge}/dispute")
    local.control(f"payment_intents/{pay('pm_usBankAccount_processing', 'usd')}/settle", {"succeeds": False})
