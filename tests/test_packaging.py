"""What is shipped: our own packages under their own names, with the SQL and the functions inside."""

import subprocess
import sys
import zipfile
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("package", ["worker", "cli"])
def test_a_package_is_the_one_of_this_checkout(package: str) -> None:
    """`worker` and `cli` are common names: a stranger's must not be imported in their place."""
    assert Path(import_module(package).__file__ or "").parent == ROOT / package


def test_the_worker_imports_nothing_of_the_command_line() -> None:
    for module in (ROOT / "worker").glob("*.py"):
        assert "from cli" not in module.read_text(), module.name


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
        f"cli/_supabase/migrations/{file.name}" for file in (ROOT / "supabase/migrations").glob("*.sql")
    }
    wanted |= {"cli/_supabase/config.toml", "cli/_supabase/functions/stripe-webhook/index.ts"}
    wanted |= {"cli/local/scaffold.sql", "cli/local/functions.ts", "worker/run.py"}
    wanted |= {f"worker/templates/{file.name}" for file in (ROOT / "worker/templates").iterdir()}
    wanted |= {
        str(path.relative_to(ROOT))
        for folder in ("templates", "static")
        for path in (ROOT / "cli/dashboard" / folder).iterdir()
    }
    example = (path for path in (ROOT / "examples/web").rglob("*") if path.is_file())
    wanted |= {f"cli/_example/{path.relative_to(ROOT / 'examples/web')}" for path in example}
    assert wanted <= names


@pytest.mark.parametrize("command", ["dev", "demo", "trigger invoice.paid"])
def test_the_local_stack_says_what_to_install_where_it_is_missing(command: str) -> None:
    hidden = "import sys; sys.modules |= {'httpx': None, 'jwt': None}; from cli.main import main; main()"
    answer = subprocess.run([sys.executable, "-c", hidden, *command.split()], capture_output=True, text=True)
    said = "error: the local stack is not installed: pip install 'tillbase[local]'"
    assert (answer.returncode, answer.stderr.strip()) == (1, said)
