"""Where this copy of Tillbase lives → the files it ships and the place it keeps its state."""

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def supabase_directory() -> Path:
    """`supabase/` beside `cli/` in a checkout, else the copy that the wheel carries."""
    checkout = _PACKAGE.parent / "supabase"
    return checkout if (checkout / "config.toml").is_file() else _PACKAGE / "_supabase"


def schemas_directory() -> Path:
    """The source of the database, by domain."""
    return supabase_directory() / "schemas"


def migrations_directory() -> Path:
    """One file for each release, made of the schemas: what `supabase db push` runs."""
    return supabase_directory() / "migrations"


def example_directory() -> Path:
    """The example app: `examples/web/` of a checkout, else the copy that the wheel carries."""
    checkout = _PACKAGE.parent / "examples" / "web"
    return checkout if checkout.is_dir() else _PACKAGE / "_example"


def state_directory() -> Path:
    """Where the local stack keeps its state: TILL_STATE, else `.till/` of the current directory; not created here."""
    return Path(os.environ.get("TILL_STATE") or Path.cwd() / ".till").absolute()
