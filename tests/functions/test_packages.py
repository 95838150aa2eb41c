"""What the functions run besides our own code: three packages, each named by version and known by its hash."""

import json
import re
from pathlib import Path

import pytest

from devstack.paths import supabase_directory

FUNCTIONS = sorted(path.parent for path in (supabase_directory() / "functions").glob("*/deno.json"))


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda path: path.name)
def test_every_package_is_named_by_its_version_and_brings_no_other(function: Path) -> None:
    imports = json.loads((function / "deno.json").read_text())["imports"].values()
    text = (function / "deno.lock").read_text()
    packages = json.loads(text)["npm"]
    assert {f"npm:{package}" for package in packages} == set(imports)
    assert all(re.fullmatch(r"npm:[a-z]+@\d+\.\d+\.\d+", package) for package in imports)
    assert all(set(package) == {"integrity"} for package in packages.values())
    assert "://" not in text
