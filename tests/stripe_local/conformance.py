"""An answer of the emulator → what is wrong with it, by the annotations of stripe-python.

This is the independent judge: it reads the SDK's classes and knows nothing of the emulator's own tables.
"""

import importlib
import inspect
import pkgutil
import types
import typing
from typing import Any

import stripe
from stripe import ListObject, StripeObject

# Optional keys that Stripe leaves out rather than sends as null: `key?:` in stripe-node's declarations, or the key of
# another payment method type. All other Optional keys must be there.
MAY_BE_ABSENT: dict[str, set[str]] = {
    "account": {"*"},
    "billing_portal.session": {"after_expiration"},
    "charge": {
        "authorization_code",
        "presentment_details",
        "radar_options",
        "refunds",
        "transfer",
        "application_fee",
        "level3",
        "source",
    },
    "checkout.session": {
        "branding_settings",
        "excluded_payment_method_types",
        "line_items",
        "name_collection",
        "optional_items",
        "phone_number_collection",
        "presentment_details",
        "redirect_on_completion",
        "return_url",
        "tax_id_collection",
    },
    "coupon": {"applies_to", "currency_options"},
    "customer": {
        "business_name",
        "cash_balance",
        "customer_account",
        "individual_name",
        "invoice_credit_balance",
        "sources",
        "subscriptions",
        "tax",
        "tax_ids",
        "next_invoice_sequence",
    },
    "dispute": {"network_reason_code", "payment_method_details"},
    "event": {"account", "context", "reason"},
    "invoice": {
        "amount_paid_off_stripe",
        "auto_advance",
        "confirmation_secret",
        "payments",
        "status_details",
        "threshold_reason",
        "hosted_invoice_url",
        "invoice_pdf",
    },
    "invoiceitem": {"frozen_fields", "invoicing_rules", "proration_details"},
    "item": {"discounts", "taxes"},
    "payment_intent": {"amount_details", "hooks", "payment_details", "presentment_details"},
    "payment_link": {"line_items", "name_collection", "optional_items"},
    "payment_method": {"*"},
    "plan": {"tiers"},
    "price": {"currency_options", "tiers"},
    "product": {"default_price", "statement_descriptor", "tax_code", "unit_label"},
    "refund": {
        "description",
        "destination_details",
        "failure_balance_transaction",
        "failure_reason",
        "instructions_email",
        "next_action",
        "pending_reason",
        "presentment_details",
    },
    "review": {"payment_intent"},
    "setup_intent": {"attach_to_self", "flow_directions", "managed_payments", "customer_account"},
    "subscription": {"presentment_details", "status_details", "default_tax_rates"},
    "subscription_item": {"billed_until", "quantity"},
    "webhook_endpoint": {"secret"},
}
_CLASSES: dict[str, type] = {}
_BY_NAME: dict[str, list[type]] = {}


def _load() -> None:
    for module in pkgutil.walk_packages(stripe.__path__, "stripe."):
        name = module.name.rpartition(".")[2]
        if (
            not name.startswith("_")
            or name.endswith("_service")
            or ".params" in module.name
            or "v2" in module.name
        ):
            continue
        for _, cls in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(cls, StripeObject) and cls.__module__ == module.name:
                _BY_NAME.setdefault(cls.__qualname__, []).append(cls)
                if isinstance(getattr(cls, "OBJECT_NAME", None), str):
                    _CLASSES.setdefault(cls.OBJECT_NAME, cls)


def problems(value: dict[str, Any], *, expanded: frozenset[str] = frozenset()) -> list[str]:
    """Every deviation, as `path: what`; `expanded` names includable lists that were asked for."""
    if not _CLASSES:
        _load()
    kind = value.get("object", "")
    if kind in ("list", "search_result"):
        return [
            p for n, element in enumerate(value["data"]) for p in _within(f"data[{n}]", problems(element))
        ]
    if value.get("deleted"):
        return (
            []
            if set(value) == {"id", "object", "deleted"}
            else ["a deleted object has id, object and deleted"]
        )
    if kind not in _CLASSES:
        return [f"unknown object {kind!r}"]
    return _check_class(value, _CLASSES[kind], kind, expanded)


def _within(path: str, found: list[str]) -> list[str]:
    return [f"{path}.{problem}" for problem in found]


def _annotations(cls: type) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if (
            issubclass(base, StripeObject)
            and base is not StripeObject
            and base.__module__.startswith("stripe.")
        ):
            found |= getattr(base, "__annotations__", {}) if "__annotations__" in vars(base) else {}
    return {
        key: hint
        for key, hint in found.items()
        if not key.startswith("_") and "ClassVar" not in str(hint) and key != "deleted"
    }


def _check_class(value: Any, cls: type, path: str, expanded: frozenset[str] = frozenset()) -> list[str]:
    if not isinstance(value, dict):
        return [f"{path}: not a hash but {value!r:.60}"]
    hints = _annotations(cls)
    found = [f"{path}.{key}: unknown key" for key in value if key not in hints and key != "object"]
    kind = getattr(cls, "OBJECT_NAME", None)
    absent = MAY_BE_ABSENT.get(kind, set()) if kind else {"*"}
    for key, hint in hints.items():
        nullable = _nullable(hint)
        if key not in value:
            if not nullable:
                found.append(f"{path}.{key}: missing")
            elif "*" not in absent and key not in absent:
                found.append(f"{path}.{key}: left out, where Stripe sends null")
        elif nullable and "ListObject" in str(hint) and key not in expanded and value[key] is not None:
            found.append(f"{path}.{key}: there without having been asked for")
        else:
            found += _check(value[key], hint, cls, f"{path}.{key}")
    return found


def _nullable(hint: Any) -> bool:
    return type(None) in typing.get_args(hint)


def _check(value: Any, hint: Any, owner: type, path: str) -> list[str]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any or "UntypedStripeObject" in str(hint):
        return []
    if origin in (typing.Union, types.UnionType):
        return _check_union(value, arguments, owner, path)
    if origin is typing.Literal:
        return [] if value in arguments else [f"{path}: {value!r:.40} is none of {arguments!r:.120}"]
    if origin is list:
        if not isinstance(value, list):
            return [f"{path}: not an array but {value!r:.60}"]
        return [p for n, e in enumerate(value) for p in _check(e, arguments[0], owner, f"{path}[{n}]")]
    if origin is dict:
        if not isinstance(value, dict):
            return [f"{path}: not a hash but {value!r:.60}"]
        return [p for k, e in value.items() for p in _check(e, arguments[1], owner, f"{path}[{k}]")]
    if origin is ListObject or hint is ListObject:
        if not isinstance(value, dict) or not {"object", "data", "has_more", "url"} <= value.keys():
            return [f"{path}: not a list object"]
        return [p for n, e in enumerate(value["data"]) for p in _within(f"{path}.data[{n}]", problems(e))]
    if isinstance(hint, typing.ForwardRef):
        return _check_reference(value, hint.__forward_arg__, owner, path)
    if isinstance(hint, str):
        return _check_reference(value, hint, owner, path)
    if inspect.isclass(hint) and issubclass(hint, StripeObject):
        return _check_class(value, hint, path)
    return _check_scalar(value, hint, path)


def _check_union(value: Any, arguments: tuple[Any, ...], owner: type, path: str) -> list[str]:
    if value is None:
        return [] if type(None) in arguments else [f"{path}: null"]
    tried = [_check(value, a, owner, path) for a in arguments if a is not type(None)]
    return min(tried, key=lambda found: (len(found), str(found)))


def _check_reference(value: Any, name: str, owner: type, path: str) -> list[str]:
    if name.startswith(
        ("Optional[", "List[", "Dict[", "ListObject[", "Union[", "ExpandableField[", "Literal")
    ):
        scope = {**vars(typing), **vars(stripe), "ListObject": ListObject, owner.__name__: owner}
        return _check(value, eval(name, scope), owner, path)
    candidates = _BY_NAME.get(name, [])
    same_module = [cls for cls in candidates if cls.__module__ == owner.__module__]
    if "." not in name and isinstance(value, dict) and value.get("object") in _CLASSES:
        return _within(path, problems(value))
    if "." not in name and isinstance(value, str) and any(hasattr(c, "OBJECT_NAME") for c in candidates):
        return [f"{path}: an id where an object belongs"]
    for cls in same_module or candidates:
        return _check_class(value, cls, path)
    return [f"{path}: cannot resolve {name}"]


def _check_scalar(value: Any, hint: Any, path: str) -> list[str]:
    name = getattr(hint, "__name__", str(hint))
    fits = {
        "str": isinstance(value, str),
        "int": isinstance(value, int) and not isinstance(value, bool),
        "float": isinstance(value, int | float) and not isinstance(value, bool),
        "bool": isinstance(value, bool),
        # Decimals travel as strings.
        "Decimal": isinstance(value, str),
        "NoneType": value is None,
    }
    return [] if fits.get(name, True) else [f"{path}: {value!r:.60} is no {name}"]
