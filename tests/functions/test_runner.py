"""A folder of edge functions → served at /functions/v1/<name> by one process that ends with its parent."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from devstack.functions import EdgeFunctions, FunctionsError, function_names, functions_of, merged_import_map
from tests.functions.support import post

DEADLINE_SECONDS = 20


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def get(functions: EdgeFunctions, path: str) -> tuple[int, object]:
    answer = post(f"{functions.url}/{path}", b"", {}, "GET")
    return answer.status, answer.body


def process_is_gone(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except OSError:
        return True
    return status.rsplit(")", 1)[1].split()[0] == "Z"  # ended; whoever inherited it has not noticed yet


ECHO = "(request) => Response.json({ path: new URL(request.url).pathname })"


def test_functions_are_served_in_both_ways_of_writing_them(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "functions",
        {
            "exported/index.ts": f"export default {{ fetch: {ECHO} }};",
            "called/index.ts": f"Deno.serve({ECHO});",
            "called-with-options/index.ts": f"Deno.serve({{ port: 1 }}, {ECHO});",
            "_shared/index.ts": "throw new Error('not a function');",
            "notes/readme.md": "",
        },
    )
    before = sorted(folder.rglob("*"))
    with EdgeFunctions.start(folder, tmp_path / "state", {}) as functions:
        for name in ("exported", "called", "called-with-options"):
            assert get(functions, f"{name}/a/b") == (200, {"path": f"/{name}/a/b"})
        for name in ("_shared", "notes", "unknown", ""):
            status, body = get(functions, name)
            assert status == 404
            assert isinstance(body, dict)
    assert sorted(folder.rglob("*")) == before


def test_broken_functions_leave_the_others_alone(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "functions",
        {
            "broken/index.ts": "throw new Error('no luck');",
            "empty/index.ts": "export const nothing = 1;",
            "forgetful/index.ts": (
                "export default { fetch: () => { Promise.reject(new Error('late')); return Response.json(1); } };"
            ),
            "thrower/index.ts": "export default { fetch: () => { throw new Error('secret detail'); } };",
            "good/index.ts": "export default { fetch: () => Response.json('good') };",
        },
    )
    with EdgeFunctions.start(folder, tmp_path / "state", {}) as functions:
        assert set(functions.failures) == {"broken", "empty"}
        assert "no luck" in functions.failures["broken"]
        assert get(functions, "broken")[0] == 503
        status, body = get(functions, "thrower")
        assert status == 500
        assert "secret detail" not in json.dumps(body)
        assert get(functions, "forgetful") == (200, 1)
        assert get(functions, "good") == (200, "good")
        assert "secret detail" in functions.log_tail()


def test_functions_see_the_given_environment_and_may_read_no_other_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_SHELL", "hidden")
    (tmp_path / "private").write_text("private", encoding="utf-8")
    folder = write(
        tmp_path / "functions",
        {
            "spy/index.ts": f"""
                const read = await Deno.readTextFile({json.dumps(str(tmp_path / "private"))}).catch((e) => e.name);
                const run = await (async () => await new Deno.Command("true").output())().catch((e) => e.name);
                const seen = ["GIVEN", "SECRET_OF_THE_SHELL"].map((name) => Deno.env.get(name) ?? null);
                export default {{ fetch: () => Response.json([read, run, ...seen]) }};
            """
        },
    )
    with EdgeFunctions.start(folder, tmp_path / "state", {"GIVEN": "seen"}) as functions:
        assert get(functions, "spy") == (200, ["NotCapable", "NotCapable", "seen", None])


def test_each_function_has_the_imports_of_its_own_deno_json(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "functions",
        {
            "one/deno.json": '{"imports": {"own": "./own.ts", "lib/": "../_shared/lib/"}}',
            "one/own.ts": "export const name = 'one';",
            "one/index.ts": (
                "import { name } from 'own'; import { lib } from 'lib/lib.ts';"
                "export default { fetch: () => Response.json([name, lib]) };"
            ),
            "two/deno.json": '{"imports": {"lib/": "../_shared/lib/"}}',
            "two/index.ts": "import 'own'; export default { fetch: () => Response.json(2) };",
            "_shared/lib/lib.ts": "export const lib = 'lib';",
        },
    )
    with EdgeFunctions.start(folder, tmp_path / "state", {}) as functions:
        assert get(functions, "one") == (200, ["one", "lib"])
        assert set(functions.failures) == {"two"}


def test_packages_of_a_deno_json_bring_their_subpaths(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        {"one/deno.json": '{"imports": {"@a/b": "npm:@a/b@1.2.3"}}', "one/index.ts": "", "two/index.ts": ""},
    )
    assert function_names(folder) == ["one", "two"]
    assert merged_import_map(functions_of(folder).values())["scopes"][f"{(folder / 'one').as_uri()}/"] == {
        "@a/b": "npm:@a/b@1.2.3",
        "@a/b/": "npm:/@a/b@1.2.3/",
    }


def test_functions_that_share_code_must_agree_on_its_packages(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "functions",
        {
            "one/deno.json": '{"imports": {"stripe": "npm:stripe@23.1.0"}}',
            "one/index.ts": "import '../_shared/lib.ts';",
            "two/deno.json": '{"imports": {"stripe": "npm:stripe@22.0.0"}}',
            "two/index.ts": "import '../_shared/lib.ts';",
            "_shared/lib.ts": "import Stripe from 'stripe';",
        },
    )
    with pytest.raises(FunctionsError, match=r"two maps stripe to npm:stripe@22\.0\.0"):
        merged_import_map(functions_of(folder).values())
    # Nothing is shared any more: each has its own.
    write(folder, {"two/index.ts": "import Stripe from 'stripe';"})
    scopes = merged_import_map(functions_of(folder).values())["scopes"]
    assert {name.split("/")[-2]: of["stripe"] for name, of in scopes.items()} == {
        "one": "npm:stripe@23.1.0",
        "two": "npm:stripe@22.0.0",
        "_shared": "npm:stripe@23.1.0",
    }


def test_taken_port_is_told_in_one_line(tmp_path: Path) -> None:
    folder = write(tmp_path / "functions", {})
    with EdgeFunctions.start(folder, tmp_path / "one", {}) as functions:
        with pytest.raises(FunctionsError, match="in use") as caught:
            EdgeFunctions.start(folder, tmp_path / "two", {}, port=functions.port)
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_process_ends_with_its_parent_even_when_that_is_killed(tmp_path: Path) -> None:
    folder = write(tmp_path / "functions", {})
    program = f"""
from pathlib import Path
from devstack.functions import EdgeFunctions
functions = EdgeFunctions.start(Path({str(folder)!r}), Path({str(tmp_path / "state")!r}), {{}})
print(functions.pid, flush=True)
input()
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    assert parent.stdin is not None
    pid = int(parent.stdout.readline())
    assert not process_is_gone(pid)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdin.close()
    parent.stdout.close()
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not process_is_gone(pid):
        assert time.monotonic() < deadline, "it outlived its parent"
        time.sleep(0.02)


def test_stop_leaves_no_process(tmp_path: Path) -> None:
    functions = EdgeFunctions.start(write(tmp_path / "functions", {}), tmp_path / "state", {})
    assert functions.running
    functions.stop()
    functions.stop()
    assert not functions.running


def test_an_apps_own_functions_are_served_beside_ours_under_names_of_their_own(tmp_path: Path) -> None:
    ours = write(tmp_path / "ours", {"one/index.ts": f"export default {{ fetch: {ECHO} }};"})
    theirs = write(
        tmp_path / "theirs",
        {
            "two/index.ts": 'import { answer } from "answer"; export default { fetch: () => Response.json(answer) };',
            "two/deno.json": '{"imports": {"answer": "./answer.ts"}}',
            "two/answer.ts": "export const answer = 2;",
        },
    )
    with EdgeFunctions.start(ours, tmp_path / "state", {}, more=[theirs]) as functions:
        assert functions.failures == {}
        assert get(functions, "one") == (200, {"path": "/one"})
        assert get(functions, "two") == (200, 2)
    write(theirs, {"one/index.ts": f"export default {{ fetch: {ECHO} }};"})
    with pytest.raises(FunctionsError, match="two edge functions are called one"):
        EdgeFunctions.start(ours, tmp_path / "state", {}, more=[theirs])
