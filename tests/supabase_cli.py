"""The real Supabase CLI from its npm package → what it did, with no login and no setting of this user."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

VERSION = "3.1.0"


class NotInstallable(Exception):
    """The CLI can't be had on this machine; the message says why."""


def install() -> Path:
    """The CLI's program, installed once for all checkouts of this user."""
    if not (shutil.which("node") and shutil.which("npm")):
        raise NotInstallable("node and npm are not on PATH: nothing is done with the real Supabase CLI")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tillbase"
    cache.mkdir(parents=True, exist_ok=True)
    installed = cache / f"supabase-cli-{VERSION}"
    with (cache / "supabase-cli.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not installed.is_dir():
            _install(installed)
    return installed / "node_modules" / ".bin" / "supabase"


def _install(directory: Path) -> None:
    """Install aside and rename: one cut short is not taken for a whole one."""
    building = Path(tempfile.mkdtemp(prefix="building-", dir=directory.parent))
    command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", building, f"supabase@{VERSION}"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise NotInstallable(f"npm cannot install supabase@{VERSION}: {result.stderr.strip()[-300:]}")
        building.rename(directory)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def run(program: Path, project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the CLI in a directory, which is its home too; fails with what it said."""
    result = subprocess.run(
        [program, *arguments],
        cwd=project,
        env={
            **os.environ,
            "HOME": str(project),
            "DO_NOT_TRACK": "1",
            "PGSSLMODE": "disable",  # or it tells on stdout that our server has no TLS
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result
