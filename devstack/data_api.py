"""The local stack's Postgres and edge functions → one Deno process that serves them as SUPABASE_URL."""

import hmac
import http.client
import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

from deno import find_deno_bin  # pyright: ignore[reportMissingTypeStubs]

from devstack.deno_process import DenoProcess, deno_environment, spawn
from devstack.errors import LocalStackError
from devstack.postgres import Postgres
from devstack.processes import HOST
from devstack.scaffold import AUTH_ROLE
from devstack.tokens import ISSUER, SigningKeys

SOURCE = Path(__file__).with_name("data_api")
READY_SECONDS = 30
POLL_SECONDS = 0.02


class DataApi(DenoProcess):
    """The process that serves it.

    The very first start downloads its npm packages from the registry; requests wait meanwhile.
    """

    port = 0

    @classmethod
    def start(cls, log_directory: Path, environment: Mapping[str, str], *, port: int | None = None) -> Self:
        """Serve on a free port unless given; returns as soon as it listens, which may be before its packages are
        downloaded.

        `environment`: from `data_api_settings`. Its log is `data-api.log` in `log_directory`.
        """
        ours = {"LITE_TELEMETRY": "0", "NO_COLOR": "1", "TOKEN_ISSUER": ISSUER}
        log_directory.mkdir(parents=True, exist_ok=True)
        log_path = log_directory.absolute() / "data-api.log"
        process = spawn(_command(port or 0), deno_environment() | ours | dict(environment), log_path)
        data_api = cls(process, log_path)
        try:
            data_api._wait_until_it_listens()
        except BaseException:  # Ctrl-C too must stop the process
            data_api.stop()
            raise
        return data_api

    def serve_functions(self, functions_url: str) -> None:
        """Forward /functions/v1 to this URL; until it is called, such requests wait."""
        assert self._process.stdin
        with suppress(BrokenPipeError):  # it has ended; `running` reports that
            os.write(self._process.stdin.fileno(), f"{functions_url}\n".encode())

    def trouble(self, timeout_seconds: float) -> str | None:
        """One line about why it does not answer, or not yet; None if all is well."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=timeout_seconds)
        try:
            connection.request("GET", "/_health")
            failure: str | None = json.loads(connection.getresponse().read())["failure"]
        except TimeoutError:
            return "the Data API is still downloading its npm packages; requests wait until it is ready"
        except (OSError, http.client.HTTPException, ValueError):
            return f"the Data API has ended (log: {self.log_path})"
        finally:
            connection.close()
        if failure is None:
            return None
        return (
            "the Data API did not start: its npm packages cannot be loaded. Everything else works. Restart with a "
            f"network connection. {failure} (log: {self.log_path})"
        )

    @property
    def url(self) -> str:
        """SUPABASE_URL: the prefix of /rest/v1 and /functions/v1."""
        return f"http://{HOST}:{self.port}"

    def _wait_until_it_listens(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not (port := self.announced_port()):
            if not self.running or time.monotonic() > deadline:
                happened = "did not answer in time" if self.running else "ended"
                last_line = self.log_tail(1) or "it said nothing"
                raise LocalStackError(f"the Data API {happened}: {last_line} (log: {self.log_path})")
            time.sleep(POLL_SECONDS)
        self.port = port


def data_api_settings(server: Postgres, keys: SigningKeys, database: str = "postgres") -> dict[str, str]:
    """Its environment: a database, the role and its password, the key that signs tokens, and the API keys."""
    return {
        "POSTGRES_URL": server.url(database),
        "AUTH_DB_URL": server.url(database, role=AUTH_ROLE),
        "AUTH_SIGNING_KEY": json.dumps(keys.jwk),
        "SUPABASE_JWKS": keys.jwks(),
        **api_keys(keys),
    }


def api_keys(keys: SigningKeys) -> dict[str, str]:
    """The API keys that clients and the Data API share; they are valid as long as the signing key."""
    return {
        "SUPABASE_PUBLISHABLE_KEY": f"sb_publishable_{_derived(keys, 'publishable')}",
        "SUPABASE_SECRET_KEY": f"sb_secret_{_derived(keys, 'secret')}",
    }


def _derived(keys: SigningKeys, name: str) -> str:
    return hmac.digest(keys.jwk["d"].encode(), name.encode(), "sha256").hex()[:32]


def _command(port: int) -> list[str]:
    return [
        find_deno_bin(),
        "run",
        "--no-prompt",
        f"--config={SOURCE / 'deno.json'}",
        f"--allow-net={HOST}",  # no other address: lite's telemetry never leaves this machine
        "--allow-env",
        f"--allow-read={SOURCE}",
        str(SOURCE / "server.ts"),
        str(port),
    ]
