"""stripe-python's annotations and stripe-node's declarations → stripe_api.jsonl, the emulator's API description.

Run it after moving the pin of stripe-python:

    python -m stripe_local.generate path/to/node_modules/stripe

stripe-python says which operations there are, what each takes and which keys an object has. Only stripe-node's
declarations tell a key that may be left out (`key?:`) from one that is null, so both are read.
"""

import ast
import importlib
import json
import re
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typing_extensions

TARGET = Path(__file__).with_name("stripe_api.jsonl")

# The families that the emulator implements. Of Stripe's other paths only the path is kept, to distinguish them
# from unknown paths.
PLAYED = (
    "/v1/account",
    "/v1/balance_transactions",
    "/v1/billing_portal",
    "/v1/charges",
    "/v1/checkout",
    "/v1/coupons",
    "/v1/credit_notes",
    "/v1/customers",
    "/v1/disputes",
    "/v1/events",
    "/v1/invoice_payments",
    "/v1/invoiceitems",
    "/v1/invoices",
    "/v1/payment_intents",
    "/v1/payment_links",
    "/v1/payment_methods",
    "/v1/plans",
    "/v1/prices",
    "/v1/products",
    "/v1/promotion_codes",
    "/v1/radar/early_fraud_warnings",
    "/v1/refunds",
    "/v1/reviews",
    "/v1/setup_intents",
    "/v1/subscription_items",
    "/v1/subscription_schedules",
    "/v1/subscriptions",
    "/v1/tax_rates",
    "/v1/test_helpers/test_clocks",
    "/v1/webhook_endpoints",
)
# Deep trees about payment methods that the emulator does not play: any value is taken.
OPAQUE = {"payment_method_options", "payment_method_data", "mandate_data", "radar_options", "hooks"}
# Left out unless asked for with `expand`, or for good: stripe-node marks them `key?: … | null`.
LEFT_OUT = {
    "Charge": {"refunds"},
    "Customer": {"customer_account", "cash_balance"},
    "Invoice": {"confirmation_secret"},
}
OBJECTS = {
    "account": "_account.Account",
    "balance_transaction": "_balance_transaction.BalanceTransaction",
    "billing_portal.configuration": "billing_portal._configuration.Configuration",
    "billing_portal.session": "billing_portal._session.Session",
    "charge": "_charge.Charge",
    "checkout.session": "checkout._session.Session",
    "coupon": "_coupon.Coupon",
    "credit_note": "_credit_note.CreditNote",
    "credit_note_line_item": "_credit_note_line_item.CreditNoteLineItem",
    "customer": "_customer.Customer",
    "discount": "_discount.Discount",
    "dispute": "_dispute.Dispute",
    "event": "_event.Event",
    "invoice": "_invoice.Invoice",
    "invoice_payment": "_invoice_payment.InvoicePayment",
    "invoiceitem": "_invoice_item.InvoiceItem",
    "item": "_line_item.LineItem",
    "line_item": "_invoice_line_item.InvoiceLineItem",
    "payment_intent": "_payment_intent.PaymentIntent",
    "payment_link": "_payment_link.PaymentLink",
    "payment_method": "_payment_method.PaymentMethod",
    "plan": "_plan.Plan",
    "price": "_price.Price",
    "product": "_product.Product",
    "promotion_code": "_promotion_code.PromotionCode",
    "radar.early_fraud_warning": "radar._early_fraud_warning.EarlyFraudWarning",
    "refund": "_refund.Refund",
    "review": "_review.Review",
    "setup_intent": "_setup_intent.SetupIntent",
    "subscription": "_subscription.Subscription",
    "subscription_item": "_subscription_item.SubscriptionItem",
    "subscription_schedule": "_subscription_schedule.SubscriptionSchedule",
    "tax_id": "_tax_id.TaxId",
    "tax_rate": "_tax_rate.TaxRate",
    "test_helpers.test_clock": "test_helpers._test_clock.TestClock",
    "webhook_endpoint": "_webhook_endpoint.WebhookEndpoint",
}


def service_operations() -> Iterator[tuple[str, str, str | None]]:
    """(verb, path template, qualified name of the params class) of every method of every service."""
    import stripe

    root = Path(stripe.__file__).parent
    for file in sorted(root.rglob("_*_service.py")):
        tree = ast.parse(file.read_text())
        modules = {
            alias.name: node.module
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module
            for alias in node.names
        }
        for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
            for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
                if (
                    isinstance(call.func, ast.Attribute)
                    and call.func.attr == "_request"
                    and len(call.args) > 1
                ):
                    verb, path = call.args[0], call.args[1]
                    if isinstance(path, ast.Call) and isinstance(path.func, ast.Attribute):
                        path = path.func.value
                    if isinstance(verb, ast.Constant) and isinstance(path, ast.Constant):
                        name = params_class(function)
                        yield (
                            str(verb.value).upper(),
                            re.sub(r"\{\w+\}", "{}", str(path.value)),
                            f"{modules[name]}:{name}" if name else None,
                        )


def params_class(function: ast.FunctionDef) -> str | None:
    """The name in `params: Optional["CustomerCreateParams"]`."""
    for argument in function.args.args:
        if argument.arg == "params" and argument.annotation is not None:
            for node in ast.walk(argument.annotation):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    return node.value
    return None


class Params:
    """Collects the parameter trees, one entry for each TypedDict."""

    def __init__(self) -> None:
        self.classes: dict[str, dict[str, Any]] = {}

    def add(self, cls: type) -> str:
        """A field is [type, 1 if required]; see `encode` for the types."""
        # Two families may use one class name: billing_portal.SessionCreateParams, checkout.SessionCreateParams.
        area = cls.__module__.removeprefix("stripe.params.").rpartition(".")[0]
        name = f"{area}.{cls.__name__}" if area else cls.__name__
        if name not in self.classes:
            fields: dict[str, Any] = {}
            self.classes[name] = fields
            hints = typing.get_type_hints(
                cls, localns=vars(typing) | {"StripeContext": Any, "HTTPClient": Any}, include_extras=True
            )
            # What a class inherits from RequestOptions travels in headers, not in the form.
            for key in sorted(set(hints) - request_option_names()):
                hint = hints[key]
                required = typing.get_origin(hint) is not typing.NotRequired
                kind = "any" if key in OPAQUE else self.encode(hint)
                fields[key] = [kind, 1] if required else [kind]
        return name

    def encode(self, hint: Any) -> Any:
        """string, integer, number, decimal, boolean, any, a list of choices, {"array"|"map"|"object"|"either": …}."""
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if origin is typing.NotRequired or origin is typing.Required or "Annotated" in str(origin):
            return self.encode(arguments[0])
        if origin is typing.Literal:
            return list(arguments)
        if origin in (typing.Union, types.UnionType):
            return self.encode_union(arguments)
        if origin is list:
            return {"array": self.encode(arguments[0])}
        if origin is dict:
            return {"map": self.encode(arguments[1])}
        if typing_extensions.is_typeddict(hint):
            return {"object": self.add(hint)}
        names = {
            "str": "string",
            "int": "integer",
            "float": "number",
            "bool": "boolean",
            "Decimal": "decimal",
        }
        return names.get(getattr(hint, "__name__", ""), "any")

    def encode_union(self, arguments: tuple[Any, ...]) -> Any:
        kept = [a for a in arguments if "UntypedStripeObject" not in str(a) and a is not type(None)]
        kinds = [self.encode(a) for a in kept]
        # `Literal[...]|str` is how the SDK spells an open set of choices: the choices are what Stripe takes.
        if any(isinstance(k, list) and k != [""] for k in kinds):
            kinds = [k for k in kinds if k != "string"]
        return kinds[0] if len(kinds) == 1 else {"either": kinds}


def request_option_names() -> set[str]:
    options: Any = importlib.import_module("stripe._request_options").RequestOptions
    return set(options.__annotations__)


DeclaredKeys = dict[str, tuple[bool, bool]]


def node_declarations(folder: Path) -> dict[str, DeclaredKeys]:
    """Interface path → key → (may be left out, may be null), from stripe-node's `.d.ts` files."""
    found: dict[str, DeclaredKeys] = {}
    for file in sorted((folder / "esm/resources").rglob("*.d.ts")):
        area = "/".join(file.relative_to(folder / "esm/resources").parts[:-1])
        stack: list[str] = []
        for line in file.read_text().splitlines():
            text = line.strip()
            opened = re.match(r"(?:export )?(?:declare )?(namespace|interface) (\w+).*\{$", text)
            field = re.match(r"(\w+)(\??): (.*)", text)
            if opened:
                stack.append(opened[2])
                if opened[1] == "interface":
                    found.setdefault(f"{area}:{'.'.join(stack)}", {})
            elif field and stack and not text.startswith("*"):
                keys = found.get(f"{area}:{'.'.join(stack)}")
                if keys is not None:
                    keys[field[1]] = (field[2] == "?", "null" in field[3])
                if text.endswith("{"):
                    stack.append("{")
            elif text.endswith("{") and not text.startswith("*"):
                stack.append("{")
            elif text.startswith("}") and stack:
                stack.pop()
    return found


def object_shape(cls: type, path: str, area: str, declared: dict[str, DeclaredKeys]) -> dict[str, Any]:
    """What completes an object of this class: {"null": keys Stripe sends as null, "in": shapes of what is nested}."""
    from stripe import StripeObject

    keys = declared.get(f"{area}:{path}", {})
    nulls: list[str] = []
    nested: dict[str, Any] = {}
    for name, annotation in cls.__annotations__.items():
        if name.startswith("_") or "ClassVar" in str(annotation) or name == "deleted":
            continue
        text = annotation if isinstance(annotation, str) else str(annotation)
        optional = "Optional[" in text or "None" in text
        nullable = keys.get(name, (False, True))[1]
        if optional and nullable and name not in LEFT_OUT.get(path, ()):
            nulls.append(name)
        for inner_name, inner in vars(cls).items():
            if (
                isinstance(inner, type)
                and issubclass(inner, StripeObject)
                and re.search(rf"\b{re.escape(cls.__qualname__)}\.{inner_name}\b|\"{inner_name}\"", text)
                and (shape := object_shape(inner, f"{path}.{inner_name}", area, declared))
            ):
                nested[name] = shape
    parts: dict[str, Any] = {"null": sorted(nulls), "in": nested}
    return {part: value for part, value in parts.items() if value}


def collect_operations() -> tuple[dict[str, Any], dict[str, None], dict[str, Any]]:
    """(operation → its parameter tree, what Stripe has besides, the parameter trees)."""
    params = Params()
    operations: dict[str, Any] = {}
    others: dict[str, None] = {}
    for verb, path, params_name in service_operations():
        if path.startswith(tuple(family + "/" for family in PLAYED)) or path in PLAYED:
            name = None
            if params_name:
                module, _, cls_name = params_name.partition(":")
                name = params.add(getattr(importlib.import_module(module), cls_name))
            operations[f"{verb} {path}"] = name
        else:
            others[f"{verb} {path}"] = None
    return operations, others, params.classes


def main(node_package: str) -> None:
    """Write stripe_api.jsonl next to this file."""
    from stripe._api_version import _ApiVersion  # pyright: ignore[reportPrivateUsage]

    declared = node_declarations(Path(node_package))
    objects: dict[str, Any] = {}
    for name, where in OBJECTS.items():
        module, _, cls_name = where.rpartition(".")
        cls: type = getattr(importlib.import_module(f"stripe.{module}"), cls_name)
        area = {"billing_portal": "BillingPortal", "checkout": "Checkout", "radar": "Radar"}.get(
            module.split(".")[0], "TestHelpers" if module.startswith("test_helpers") else ""
        )
        objects[name] = object_shape(cls, cls_name, area, declared)
    operations, others, params = collect_operations()
    parts: dict[str, Any] = {
        "version": _ApiVersion.CURRENT,
        "objects": objects,
        "operations": operations,
        "params": params,
        "other_operations": others,
    }
    TARGET.write_text(dump(parts))


def dump(parts: dict[str, Any]) -> str:
    """A line for each entry, [section, name, value], so that a change of the pin reads well as a difference."""
    lines: list[str] = []
    for section, value in parts.items():
        if isinstance(value, dict):
            table = typing.cast(dict[str, Any], value)
            lines += [json.dumps([section, name, table[name]], sort_keys=True) for name in sorted(table)]
        else:
            lines.append(json.dumps([section, None, value]))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(sys.argv[1])
