"""Documentation, comments and messages use plain words: a phrase of this list fails with what to write instead."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Only phrases that readers had to read twice. Add one with its replacement.
INSTEAD = {
    r"the books|on no books": "the ledger, the database",
    r"whoever|whomever|thereof|whereof": "a person who, the caller, anybody who",
    r"(is|are|was|were|be|been) told( of)?": "is notified, is reported, receives",
    r"tells? of|says? nothing of": "reports, contains no",
    r"(is|not|still) to come": "in the future, future",
    r"went back": "was refunded, was returned",
    r"goes on by itself|go on by themselves": "is retried automatically",
    r"brings? it here": "syncs it",
    r"errands?|chores?": "job, periodic task",
    r"linked to (no account|nobody|none)": "not linked to an account",
    r"is no (plan|pack|credit pack|spend) here": "is not in billing.plans",
    r"to and fro": "back and forth",
    r"for ever": "forever, permanently",
    r"anew": "again",
    r"none of this installation's": "does not belong to this installation",
    r"heard of": "say what is known: no answer arrived, the lease expired",
}
CHECKED = ("*.md", "*.py", "*.sql", "*.ts", "*.js", "*.jinja", "Makefile")
# Migrations and docs/reference are generated from files that are checked.
LEFT_OUT = ("tests/", "supabase/migrations/", "docs/reference/", "types/")


def test_words_are_plain() -> None:
    listed = subprocess.run(
        ["git", "ls-files", *CHECKED], cwd=ROOT, capture_output=True, text=True, check=True
    )
    paths = [path for path in listed.stdout.split() if not path.startswith(LEFT_OUT)]
    assert len(paths) > 100
    found = [line for path in paths for line in _found(path)]
    assert not found, "\n" + "\n".join(found)


def _found(path: str) -> list[str]:
    text = (ROOT / path).read_text(encoding="utf-8")
    found: list[str] = []
    for phrase, instead in INSTEAD.items():
        # A phrase may be broken over two lines of a comment.
        pattern = rf"\b(?:{phrase})\b".replace(" ", r"\s+(?:--\s+|#\s+|//\s+|\*\s+)?")
        for match in re.finditer(pattern, text, re.IGNORECASE):
            line = text.count("\n", 0, match.start()) + 1
            found.append(f'{path}:{line}: "{match[0]}": write {instead}')
    return found
