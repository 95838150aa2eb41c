"""The location of this copy of Tillbase → the files that it ships, and its state directory."""

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def supabase_directory() -> Path:
    """`supabase/` beside `cli/` in a checkout, or else the copy in the wheel."""
    checkout = _PACKAGE.parent / "supabase"
    return checkout if (checkout / "config.toml").is_file() else _PACKAGE / "_supabase"


def schemas_directory() -> Path:
    """The source of the database, by domain."""
    return supabase_directory() / "schemas"


def migrations_directory() -> Path:
    """One file for each release, generated from the schemas: what `supabase db push` runs."""
    return supabase_directory() / "migrations"


def example_directory() -> Path:
    """The example app: `examples/web/` of a checkout, or else the copy in the wheel."""
    checkout = _PACKAGE.parent / "examples" / "web"
    return checkout if checkout.is_dir() else _PACKAGE / "_example"


def state_directory() -> Path:
    """The local stack's state directory: TILL_STATE, or else `.till/` in the current directory; not created here."""
    return Path(os.environ.get("TILL_STATE") or Path.cwd() / ".till").absolute()
