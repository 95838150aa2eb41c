"""Documentation, comments and messages use plain words: a phrase of this list fails with what to write instead."""

INSTEAD = {
    r"\bthe books\b|\bon no books\b": "the ledger, the database",
    r"\bwhoever\b|\bwhomever\b|\bthereof\b|\bwhereof\b": "who, anybody who, the caller",
    r"\b(is|are|was|were|be|been|being) told( of)?\b": "is notified, is reported, receives",
    r"\btells? of\b|\bsays? nothing of\b": "reports, contains no",
    r"\bis (not )?to come\b|\bstill to come\b": "is (not) in the future",
    r"\bwent back\b": "was refunded, was returned",
    r"\bgoes on by (itself|themselves)\b|\bgo on by themselves\b": "is retried automatically",
    r"\bbrings? (it|the (plan|pack)) here\b": "syncs",
    r"\berrands?\b|\bchores?\b": "job, periodic task",
    r"\blinked to (no account|nobody|none)\b": "not linked to an account",
    r"\bis no (plan|pack|credit pack|spend|address|directory|text) (here|that|of|and)\b": "is not a …",
    r"\bto and fro\b": "back and forth",
    r"\bfor ever\b": "forever, permanently",
    r"\banew\b": "again",
    r"\bnone of (this installation|ours)\b": "does not belong to …",
    r"\bputs? (it |them )?off\b": "retries later, postpones",
    r"\bis thought to have\b|\bheard of\b": "say what is known: the lease expired, no answer arrived",
}
"""Pattern → what to write instead. Only phrases that had to be read twice; add one with its replacement."""

EXCEPTIONS = {
    ("docs/subscriptions.md", "to_and_fro"),  # the name of an example
}
