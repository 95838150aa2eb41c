"""Edge functions of a Supabase tree → one Deno process that serves them at /functions/v1/<name>."""

import http.client
import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from deno import find_deno_bin  # pyright: ignore[reportMissingTypeStubs]

from devstack.deno_process import DenoProcess, deno_environment, spawn
from devstack.errors import LocalStackError

RUNNER = Path(__file__).with_name("functions.ts")
HOST = "127.0.0.1"
PREFIX = "/functions/v1"
POLL_SECONDS = 0.02

# The first start downloads the functions' npm packages.
READY_SECONDS = 120


class FunctionsError(LocalStackError):
    """The edge functions cannot be served; the message says why."""


def function_names(functions_directory: Path) -> list[str]:
    """Directories with an index.ts, as Supabase deploys them, except names that begin with `_` or a dot."""
    return sorted(
        entrypoint.parent.name
        for entrypoint in functions_directory.glob("*/index.ts")
        if not entrypoint.parent.name.startswith(("_", "."))
    )


def _function_folders(*directories: Path) -> list[Path]:
    """The directory of each function. Raises FunctionsError if two have the same name."""
    folders = {name: directory / name for directory in directories for name in function_names(directory)}
    if len(folders) < sum(len(function_names(directory)) for directory in directories):
        raise FunctionsError("two edge functions have the same name: rename one of them")
    return list(folders.values())


def merged_import_map(*directories: Path) -> dict[str, Any]:
    """The deno.json of each function, as one import map in which each function sees only its own imports.

    Directories that begin with `_` are shared: two functions that import different packages by one name there are an
    error.
    """
    scopes: dict[str, dict[str, str]] = {}
    shared: dict[str, str] = {}
    for function in _function_folders(*directories):
        imports = _imports(function / "deno.json")
        scopes[_folder_url(function)] = imports
        for specifier, target in imports.items():
            if shared.setdefault(specifier, target) != target:
                raise FunctionsError(
                    f"{function.name}/deno.json maps {specifier} to {target}, another function to "
                    f"{shared[specifier]}: give both the same version"
                )
    for folder in (folder for directory in directories for folder in directory.glob("_*/")):
        scopes[_folder_url(folder)] = shared
    return {"imports": {}, "scopes": scopes}


def functions_command(
    directories: Sequence[Path], state_directory: Path, port: int, environment: Mapping[str, str]
) -> tuple[list[str], dict[str, str]]:
    """→ (argv, env) of the process. It ends when its standard input closes, so give it a pipe.

    Port 0 selects a free one. Writes the merged import map to `state_directory`, and nothing else.
    """
    directories = [directory.resolve() for directory in directories]
    state_directory.mkdir(parents=True, exist_ok=True)
    import_map = state_directory.resolve() / "import_map.json"
    import_map.write_text(json.dumps(merged_import_map(*directories), indent=2), encoding="utf-8")
    argv = [
        find_deno_bin(),
        "run",
        "--no-prompt",
        "--no-config",
        "--no-lock",
        "--node-modules-dir=none",
        f"--import-map={import_map}",
        "--allow-net",
        "--allow-env",
        f"--allow-read={','.join(map(str, directories))}",
        str(RUNNER),
        str(port),
        *(folder.as_uri() for folder in _function_folders(*directories)),
    ]
    return argv, deno_environment() | dict(environment)


class EdgeFunctions(DenoProcess):
    """The process that serves them."""

    def __init__(self, process: subprocess.Popen[bytes], log_path: Path) -> None:
        """For `start`."""
        super().__init__(process, log_path)
        self.port = 0
        self.failures: dict[str, str] = {}
        """Function → why it could not be loaded; it answers 503."""

    @classmethod
    def start(
        cls,
        functions_directory: Path,
        state_directory: Path,
        environment: Mapping[str, str],
        *,
        more: Sequence[Path] = (),
        port: int | None = None,
        timeout_seconds: float = READY_SECONDS,
    ) -> Self:
        """Serve every function of the directory and of `more`, on a free port unless given; returns once they answer.

        `environment` is all that the functions see of our environment: SUPABASE_DB_URL, STRIPE_WEBHOOK_SECRET and so
        on. The log of Deno and of the functions is `functions.log` in `state_directory`.
        """
        directories = [functions_directory, *more]
        argv, env = functions_command(directories, state_directory, port or 0, environment)
        log_path = state_directory.absolute() / "functions.log"
        functions = cls(spawn(argv, env, log_path), log_path)
        try:
            functions._wait_ready(timeout_seconds)
        except BaseException:  # Ctrl-C too must stop the process
            functions.stop()
            raise
        return functions

    @property
    def url(self) -> str:
        """The prefix of `/<name>`."""
        return f"http://{HOST}:{self.port}{PREFIX}"

    def _wait_ready(self, timeout_seconds: float) -> None:
        deadline = time.monotonic() + timeout_seconds
        while not self._is_ready():
            if not self.running or time.monotonic() > deadline:
                happened = "did not answer in time" if self.running else "ended"
                last_line = self.log_tail(1) or "it said nothing"
                raise FunctionsError(f"the edge functions {happened}: {last_line} (log: {self.log_path})")
            time.sleep(POLL_SECONDS)

    def _is_ready(self) -> bool:
        # Announced even if a port was given: on a port in use, another program would answer.
        self.port = self.announced_port()
        if not self.port:
            return False
        connection = http.client.HTTPConnection(HOST, self.port, timeout=READY_SECONDS)
        try:
            connection.request("GET", f"{PREFIX}/_health")
            health: dict[str, str | None] = json.loads(connection.getresponse().read())
        except (OSError, ValueError):
            return False
        finally:
            connection.close()
        self.failures = {name: failure for name, failure in health.items() if failure is not None}
        return True


def _imports(deno_json: Path) -> dict[str, str]:
    """A function's `imports` with absolute targets; Deno lets `pkg/sub` follow from `pkg` in a deno.json."""
    if not deno_json.exists():
        return {}
    imports: dict[str, str] = {}
    for specifier, target in json.loads(deno_json.read_text(encoding="utf-8")).get("imports", {}).items():
        if target.startswith("."):
            imports[specifier] = _relative_url(deno_json.parent, target)
            continue
        imports[specifier] = target
        if target.startswith(("npm:", "jsr:")) and not specifier.endswith("/"):
            scheme, package = target.split(":", 1)
            imports[f"{specifier}/"] = f"{scheme}:/{package.lstrip('/')}/"
    return imports


def _relative_url(folder: Path, target: str) -> str:
    url = Path(os.path.normpath(folder / target)).as_uri()
    return f"{url}/" if target.endswith("/") else url


def _folder_url(folder: Path) -> str:
    return f"{folder.as_uri()}/"
