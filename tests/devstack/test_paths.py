"""Where the SQL files are found: in a checkout, and in an installed wheel."""

import shutil
import subprocess
import sys
from pathlib import Path

import devstack.paths
from devstack.paths import migrations_directory, state_directory, supabase_directory

REPOSITORY = Path(__file__).resolve().parents[2]


def test_checkout_uses_the_supabase_folder_beside_the_code() -> None:
    assert supabase_directory() == REPOSITORY / "supabase"
    assert migrations_directory() == REPOSITORY / "supabase" / "migrations"
    assert state_directory() == Path.cwd() / ".till"


def test_installed_wheel_uses_the_copy_it_carries(tmp_path: Path) -> None:
    (tmp_path / "devstack" / "_supabase" / "migrations").mkdir(parents=True)
    (tmp_path / "devstack" / "__init__.py").touch()
    shutil.copyfile(devstack.paths.__file__, tmp_path / "devstack" / "paths.py")
    program = "from devstack.paths import migrations_directory; print(migrations_directory())"
    told = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    assert told.strip() == str(tmp_path.resolve() / "devstack" / "_supabase" / "migrations")
