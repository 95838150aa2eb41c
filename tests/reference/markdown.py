"""Values → Markdown."""

import re
from collections.abc import Iterable, Sequence

HEAD = (
    "<!-- Generated from the code by `make reference`. Edit the code, its comments or tests/reference/. -->\n"
)


def page(title: str, introduction: str, body: Iterable[str]) -> str:
    """A page, its parts separated by empty lines."""
    parts = [f"{HEAD}\n# {title}", introduction.strip(), *(part.strip("\n") for part in body)]
    return "\n\n".join(parts) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells may hold any text."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def code(text: str) -> str:
    """Inline code; nothing for nothing."""
    return f"`{text}`" if text else ""


def block(language: str, text: str) -> str:
    """A block of code."""
    return f"```{language}\n{text.rstrip()}\n```"


def anchor(heading: str) -> str:
    """GitHub's id of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def sentence(text: str) -> str:
    """With a full stop at its end."""
    text = " ".join(text.split())
    return text if not text or text[-1] in ".!?:" else f"{text}."
