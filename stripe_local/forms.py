"""A form body or query string, as the Stripe SDKs write it → nested dicts and lists of strings."""

import re
from typing import Any
from urllib.parse import parse_qsl

from stripe_local.errors import malformed
from stripe_local.values import is_array, is_hash

MAX_FIELDS = 2_000
MAX_DEPTH = 12
_KEY = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)\Z")
_PART = re.compile(r"\[([^\[\]]*)\]")

Tree = dict[str, Any]


def decode(text: str) -> Tree:
    """`a[b][0]=x&c[]=y` → {"a": {"b": {"0": "x"}}, "c": ["y"]}. A later value of one key wins."""
    tree: Tree = {}
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="replace", max_num_fields=MAX_FIELDS)
    except ValueError as error:
        raise malformed(f"Invalid request: at most {MAX_FIELDS} parameters are taken.") from error
    for key, value in pairs:
        found = _KEY.match(key)
        if not found:
            raise malformed(f"Invalid parameter name: {key[:100]}", param=key[:100])
        path = [found[1], *_PART.findall(found[2])]
        if len(path) > MAX_DEPTH:
            raise malformed(f"Invalid parameter name: {key[:100]}", param=key[:100])
        try:
            _put(tree, path, value)
        except TypeError as error:
            raise malformed(f"Invalid parameter: {key[:100]}", param=key[:100]) from error
    return tree


def _put(node: Any, path: list[str], value: str) -> None:
    """TypeError where a name is used both as a value and as a hash, or as a hash and as an array."""
    head, rest = path[0], path[1:]
    if is_array(node):
        elements: list[Any] = node
        if head:
            raise TypeError(head)
        if not rest:
            elements.append(value)
            return
        # `items[][price]=a&items[][quantity]=1`: a key that comes again starts the next element.
        if not elements or not is_hash(elements[-1]) or rest[0] in elements[-1]:
            elements.append({})
        _put(elements[-1], rest, value)
    elif not is_hash(node) or not head:
        raise TypeError(head)
    elif rest:
        table: Tree = node
        _put(table.setdefault(head, [] if rest[0] == "" else {}), rest, value)
    elif isinstance(node.get(head), dict | list):
        raise TypeError(head)
    else:
        node[head] = value
