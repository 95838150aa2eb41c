"""What is shipped: our own packages under their own names, with the SQL and the functions inside."""

import ast
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ["worker", "cli", "devstack", "stripe_local"]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_is_the_one_of_this_checkout(package: str) -> None:
    """`worker` and `cli` are common names: a stranger's must not be imported in their place."""
    assert Path(import_module(package).__file__ or "").parent == ROOT / package


@pytest.mark.parametrize(
    ("package", "others"),
    [
        ("stripe_local", ["worker", "cli", "devstack"]),
        ("worker", ["cli", "devstack", "stripe_local"]),
        ("devstack", ["cli"]),
    ],
)
def test_a_package_imports_only_those_below_it(package: str, others: list[str]) -> None:
    imports = re.compile(rf"^\s*(?:from|import) (?:{'|'.join(others)})\b", re.MULTILINE)
    modules = (ROOT / package).rglob("*.py")
    assert [str(module.relative_to(ROOT)) for module in modules if imports.search(module.read_text())] == []


def _imported(module: Path) -> Iterator[str]:
    """Every name that a file imports, wherever in the file: in a function and under TYPE_CHECKING too."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
            yield f"{node.module}"


def _name(module: Path) -> str:
    return ".".join(module.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def test_no_module_imports_one_that_imports_it_back() -> None:
    """Nor by way of others: one can be read, tested and moved without the other. `prepare` names the circle."""
    modules = {_name(module): module for package in PACKAGES for module in (ROOT / package).rglob("*.py")}
    imports = {name: set(_imported(module)) & modules.keys() - {name} for name, module in modules.items()}
    assert sum(map(len, imports.values())) > len(modules)
    TopologicalSorter(imports).prepare()


@pytest.mark.slow
def test_the_wheel_carries_what_a_project_needs(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)],
        capture_output=True, text=True, check=False, timeout=180,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    [wheel] = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        f"devstack/_supabase/migrations/{file.name}" for file in (ROOT / "supabase/migrations").glob("*.sql")
    }
    wanted |= {"devstack/_supabase/config.toml", "devstack/_supabase/functions/stripe-webhook/index.ts"}
    wanted |= {"devstack/scaffold.sql", "devstack/platform.sql", "devstack/functions.ts", "worker/run.py"}
    wanted |= {f"worker/jobs/templates/{file.name}" for file in (ROOT / "worker/jobs/templates").iterdir()}
    wanted |= {
        str(path.relative_to(ROOT))
        for folder in ("templates", "static")
        for path in (ROOT / "cli/dashboard" / folder).iterdir()
    }
    example = (path for path in (ROOT / "examples/web").rglob("*") if path.is_file())
    wanted |= {f"devstack/_example/{path.relative_to(ROOT / 'examples/web')}" for path in example}
    assert wanted <= names


@pytest.mark.parametrize("command", ["dev", "demo", "trigger invoice.paid"])
def test_the_local_stack_says_what_to_install_where_it_is_missing(command: str) -> None:
    hidden = "import sys; sys.modules |= {'httpx': None, 'jwt': None}; from cli.main import main; main()"
    answer = subprocess.run([sys.executable, "-c", hidden, *command.split()], capture_output=True, text=True)
    said = "error: the local stack is not installed: pip install 'tillbase[local]'"
    assert (answer.returncode, answer.stderr.strip()) == (1, said)
