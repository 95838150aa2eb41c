"""The body of a Stripe event → as people read it, without the digits of cards."""

import contextlib
import json
import re

# Stripe's names for parts of a card number.
_DIGITS = re.compile(r'"((?:dynamic_)?last4|iin|number)"(\s*:\s*)"\d+"')


def readable(payload: str) -> str:
    """Indented if it is JSON; some events are dead because their body is not."""
    with contextlib.suppress(ValueError):
        payload = json.dumps(json.loads(payload), indent=2, ensure_ascii=False)
    return without_card_digits(payload)


def without_card_digits(payload: str) -> str:
    """The body with ···· for the digits."""
    return _DIGITS.sub(r'"\1"\2"····"', payload)
