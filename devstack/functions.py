"""Edge functions of a Supabase tree → one Deno process that serves them at /functions/v1/<name>."""

import http.client
import json
import os
import re
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from deno import find_deno_bin  # pyright: ignore[reportMissingTypeStubs]

from devstack.deno_process import DenoProcess, deno_environment, spawn
from devstack.errors import LocalStackError

RUNNER = Path(__file__).with_name("functions.ts")
HOST = "127.0.0.1"
PREFIX = "/functions/v1"
POLL_SECONDS = 0.02

_SOURCES = {".ts", ".tsx", ".js", ".mjs", ".json", ".jsonc"}
# Both keep strings as they are, in which such signs are no comments and no trailing commas.
_COMMENT = re.compile(r'("(?:[^"\\]|\\.)*")|//[^\n]*|/\*.*?\*/', re.DOTALL)
_TRAILING_COMMA = re.compile(r'("(?:[^"\\]|\\.)*")|,\s*([}\]])', re.DOTALL)

# The first start downloads the functions' npm packages.
READY_SECONDS = 120


class FunctionsError(LocalStackError):
    """The edge functions cannot be served; the message says why."""


@dataclass(frozen=True, slots=True)
class FunctionSettings:
    """Where a function and its imports are, and whether the gateway lets only signed tokens through."""

    folder: Path
    entrypoint: Path
    import_map: Path | None = None
    verify_jwt: bool = False


def function_names(functions_directory: Path) -> list[str]:
    """Directories with an index.ts, as Supabase deploys them, except names that begin with `_` or a dot."""
    return sorted(
        entrypoint.parent.name
        for entrypoint in functions_directory.glob("*/index.ts")
        if not entrypoint.parent.name.startswith(("_", "."))
    )


def functions_of(functions_directory: Path) -> dict[str, FunctionSettings]:
    """Function → its settings where no config.toml has others: the folder's name, its index.ts, its deno.json."""
    directory = functions_directory.resolve()
    return {
        name: FunctionSettings(directory / name, directory / name / "index.ts")
        for name in function_names(directory)
    }


def merged_import_map(functions: Collection[FunctionSettings]) -> dict[str, Any]:
    """The imports of each function, as one import map in which each function sees only its own.

    Directories beside them that begin with `_` are shared: what they import has the version that the functions have
    which use them. Two functions that differ in that are an error: this process loads a shared file once, where
    Supabase bundles it with each function.
    """
    imports = {function.folder: _imports(function) for function in functions}
    scopes = {_folder_url(folder): of_function for folder, of_function in imports.items()}
    for shared in sorted({path for folder in imports for path in folder.parent.glob("_*/")}):
        text = _source(shared)
        seen: dict[str, str] = {}
        for folder, of_function in imports.items():
            if folder.parent != shared.parent or f"{shared.name}/" not in _source(folder):
                continue
            for specifier, target in of_function.items():
                if _names(text, specifier) and seen.setdefault(specifier, target) != target:
                    raise FunctionsError(
                        f"{folder.name} maps {specifier} to {target}, another function that uses {shared.name} to "
                        f"{seen[specifier]}: give both the same version"
                    )
        scopes[_folder_url(shared)] = seen
    return {"imports": {}, "scopes": scopes}


def functions_command(
    functions: Mapping[str, FunctionSettings],
    state_directory: Path,
    port: int,
    environment: Mapping[str, str],
) -> tuple[list[str], dict[str, str]]:
    """→ (argv, env) of the process. It ends when its standard input closes, so give it a pipe.

    Port 0 selects a free one. Writes the merged import map to `state_directory`, and nothing else.
    """
    state_directory.mkdir(parents=True, exist_ok=True)
    import_map = state_directory.resolve() / "import_map.json"
    import_map.write_text(json.dumps(merged_import_map(functions.values()), indent=2), encoding="utf-8")
    readable = sorted({str(function.folder.parent) for function in functions.values()})
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
        *([f"--allow-read={','.join(readable)}"] if readable else []),
        str(RUNNER),
        str(port),
        *(
            json.dumps({"name": name, "url": function.entrypoint.as_uri(), "verifyJwt": function.verify_jwt})
            for name, function in functions.items()
        ),
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
        functions: Path | Mapping[str, FunctionSettings],
        state_directory: Path,
        environment: Mapping[str, str],
        *,
        more: Sequence[Path] = (),
        port: int | None = None,
        timeout_seconds: float = READY_SECONDS,
    ) -> Self:
        """Serve these functions, or all of a directory, and all of `more`; returns once they answer.

        On a free port unless given. `environment` is all that the functions see of our environment:
        SUPABASE_DB_URL, STRIPE_WEBHOOK_SECRET and so on. The log of Deno and of the functions is `functions.log` in
        `state_directory`.
        """
        served = dict(functions_of(functions) if isinstance(functions, Path) else functions)
        for directory in more:
            for name, settings in functions_of(directory).items():
                if served.setdefault(name, settings) is not settings:
                    raise FunctionsError(f"two edge functions are called {name}: rename one of them")
        argv, env = functions_command(served, state_directory, port or 0, environment)
        log_path = state_directory.absolute() / "functions.log"
        process = cls(spawn(argv, env, log_path), log_path)
        try:
            process._wait_ready(timeout_seconds)
        except BaseException:  # Ctrl-C too must stop the process
            process.stop()
            raise
        return process

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


def _imports(function: FunctionSettings) -> dict[str, str]:
    """A function's `imports` with absolute targets; Deno lets `pkg/sub` follow from `pkg` in a deno.json."""
    file, declared = _declared(function)
    imports: dict[str, str] = {}
    for specifier, target in declared.items():
        if target.startswith("."):
            imports[specifier] = _relative_url(file.parent, target)
            continue
        imports[specifier] = target
        if target.startswith(("npm:", "jsr:")) and not specifier.endswith("/"):
            scheme, package = target.split(":", 1)
            imports[f"{specifier}/"] = f"{scheme}:/{package.lstrip('/')}/"
    return imports


def _declared(function: FunctionSettings) -> tuple[Path, dict[str, str]]:
    """The file that declares them, and the imports: a deno.json may point to an import map."""
    named = [function.import_map] if function.import_map else []
    candidates = [*named, *(function.folder / name for name in ("deno.json", "deno.jsonc"))]
    file = next((path for path in candidates if path.is_file()), candidates[-1])
    if not file.is_file():
        return file, {}
    content = _json(file)
    if "importMap" in content:
        file = file.parent / content["importMap"]
        content = _json(file)
    return file, content.get("imports", {})


def _json(file: Path) -> dict[str, Any]:
    """A JSON file that may have comments and trailing commas."""
    try:
        text = _COMMENT.sub(lambda match: match[1] or "", file.read_text(encoding="utf-8"))
        return json.loads(_TRAILING_COMMA.sub(lambda match: match[1] or match[2], text))
    except (OSError, ValueError) as error:
        raise FunctionsError(f"{file} can't be read ({error}): correct it") from None


def _source(folder: Path) -> str:
    """What a folder's files say, to see which packages and which shared folders they name."""
    files = (
        path for path in folder.rglob("*") if path.suffix in _SOURCES and "node_modules" not in path.parts
    )
    return "\n".join(path.read_text(encoding="utf-8", errors="replace") for path in sorted(files))


def _names(text: str, specifier: str) -> bool:
    end = "" if specifier.endswith("/") else "[\"'/]"
    return re.search(rf"[\"']{re.escape(specifier)}{end}", text) is not None


def _relative_url(folder: Path, target: str) -> str:
    url = Path(os.path.normpath(folder / target)).as_uri()
    return f"{url}/" if target.endswith("/") else url


def _folder_url(folder: Path) -> str:
    return f"{folder.as_uri()}/"
