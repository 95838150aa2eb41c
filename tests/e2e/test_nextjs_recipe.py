"""docs/how-to/nextjs.md: its files are type-checked, and all but the components run against a whole local stack.

Next.js itself is not installed: `next/headers` is a jar of cookies here, `server-only` is empty, and no component is
rendered. Everything else is real: @supabase/ssr, supabase-js, sign-in, the Data API, the edge functions, Postgres.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from deno import find_deno_bin

from cli.shop import Shop
from devstack.stack import Stack
from tests.test_docs import ROOT

PAGE = ROOT / "docs/how-to/nextjs.md"
TIMEOUT_SECONDS = 240

PACKAGES = {
    "@supabase/ssr": "0.12.7",
    "@supabase/supabase-js": "2.119.1",
    "@types/node": "24.9.1",
    "@types/react": "19.2.2",
    "typescript": "5.9.3",
}
# What Next.js writes into tsconfig.json, as far as it concerns types.
TYPES = {
    "target": "ES2022",
    "lib": ["dom", "dom.iterable", "esnext"],
    "strict": True,
    "noEmit": True,
    "skipLibCheck": True,
    "module": "esnext",
    "moduleResolution": "bundler",
    "jsx": "preserve",
    "paths": {"next/headers": ["./next-headers.ts"], "server-only": ["./nothing.ts"]},
}
# What Next.js brings, and the app's own work.
AROUND = {
    "next-headers.ts": """
        type Cookie = { name: string; value: string };
        const jar = new Map<string, string>();
        export const forget = () => jar.clear();
        export const cookies = () => Promise.resolve({
          getAll: (): Cookie[] => [...jar].map(([name, value]) => ({ name, value })),
          set: (name: string, value: string, _options?: unknown) => void jar.set(name, value),
        });
    """,
    "nothing.ts": "export {};",
    "lib/generate.ts": """
        export const generate = (prompt: string) =>
          prompt === "fail" ? Promise.reject(new Error("no model")) : Promise.resolve(prompt.toUpperCase());
    """,
}
# A user's way through the app: what each step answers.
STORY = """
import { POST } from "./app/api/generate/route";
import { checkoutUrl, myCredits } from "./lib/billing";
import { createClient } from "./lib/supabase/server";
import { forget } from "./next-headers";

const told: Record<string, unknown> = {};
const post = async (body: unknown) => {
  const request = new Request("http://app/api/generate", { method: "POST", body: JSON.stringify(body) });
  try {
    const answer = await POST(request);
    return [answer.status, await answer.json()];
  } catch (error) {
    return [500, (error as Error).message];
  }
};

told.visitor = await post({ job: "1", prompt: "hello" });
const supabase = await createClient();
await supabase.auth.signUp({ email: Deno.env.get("EMAIL")!, password: "correct horse battery" });
told.poor = await post({ job: "1", prompt: "hello" });
told.before = await myCredits(supabase);
const url = await checkoutUrl(supabase, { plan: "nextjs_pro" });
const session = url.split("/").pop()!.split(/[?#]/)[0];
const paid = await fetch(`${Deno.env.get("STRIPE_API_BASE")}/_control/checkout_sessions/${session}/complete`, {
  method: "POST", headers: { "Content-Type": "application/json" },
  body: JSON.stringify({ payment_method: "pm_card_visa" }),
});
told.paid = paid.status;
await paid.body?.cancel();
while ((await myCredits(supabase)).available === 0) await new Promise((after) => setTimeout(after, 100));
told.after = await myCredits(supabase);
told.unknown = await checkoutUrl(supabase, { plan: "nothing" }).catch((error) => error.message);
told.spent = await post({ job: "1", prompt: "hello" });
told.again = await post({ job: "1", prompt: "hello" });
told.failed = await post({ job: "2", prompt: "fail" });
told.left = (await myCredits(supabase)).available;
forget();
told.gone = await post({ job: "3", prompt: "hello" });
console.log(JSON.stringify(told));
Deno.exit(0);
"""


def files() -> dict[str, str]:
    """Path → text of the page's files."""
    return dict(re.findall(r"```tsx?\n// (\S+)\n(.*?)```", PAGE.read_text(), re.DOTALL))


def deno(app: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [find_deno_bin(), *arguments],
        cwd=app, capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS,
        env={**os.environ, "NO_COLOR": "1", **settings},
    )  # fmt: skip


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The app of the page in a directory, with its packages."""
    directory = tmp_path_factory.mktemp("next")
    imports = {"next/headers": "./next-headers.ts", "server-only": "./nothing.ts"}
    written = files() | AROUND | {"story.ts": STORY}
    written["package.json"] = json.dumps({"dependencies": PACKAGES})
    written["deno.json"] = json.dumps({"imports": imports, "nodeModulesDir": "auto"})
    written["tsconfig.json"] = json.dumps({"compilerOptions": TYPES, "include": ["app", "lib"]})
    for path, text in written.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_text(text)
    shutil.copy(ROOT / "types/tillbase.ts", directory / "lib/tillbase.ts")
    installed = deno(directory, "install", "--quiet", "--no-lock")
    assert installed.returncode == 0, installed.stderr
    return directory


def check(app: Path) -> list[str]:
    """What TypeScript's own compiler says."""
    done = deno(app, "run", "-A", "--quiet", "--no-lock", "npm:typescript@5.9.3/tsc", "--pretty", "false")
    errors = [line for line in done.stdout.splitlines() if "error TS" in line]
    assert (done.returncode == 0) == (errors == []), done.stdout + done.stderr
    return errors


def test_the_page_has_these_files() -> None:
    assert sorted(files()) == [
        "app/api/generate/route.ts", "app/plans/checkout-button.tsx", "app/plans/page.tsx", "lib/billing.ts",
        "lib/supabase/admin.ts", "lib/supabase/client.ts", "lib/supabase/server.ts",
    ]  # fmt: skip


def test_the_files_are_well_typed_and_a_mistake_is_found(app: Path) -> None:
    wrong = app / "lib/wrong.ts"
    wrong.write_text(
        files()["lib/billing.ts"].replace('"balance, held, available"', '"balance, held, availlable"')
    )
    errors = check(app)
    assert any("availlable" in error for error in errors)
    assert [error for error in errors if not error.startswith("lib/wrong.ts(")] == []


def test_a_user_buys_and_spends(stack: Stack, app: Path) -> None:
    settings = stack.settings
    with Shop(settings) as shop:
        shop.plan("Nextjs Pro", unit_amount=1900, initial_credits=0, monthly_credits=1000)
        shop.settle()
    done = deno(
        app, "run", "-A", "--quiet", "--no-lock", "--unstable-sloppy-imports", "story.ts",
        NEXT_PUBLIC_SUPABASE_URL=settings["SUPABASE_URL"],
        NEXT_PUBLIC_SUPABASE_PUBLISHABLE_KEY=settings["SUPABASE_PUBLISHABLE_KEY"],
        SUPABASE_SECRET_KEY=settings["SUPABASE_SECRET_KEY"],
        STRIPE_API_BASE=settings["STRIPE_API_BASE"],
        EMAIL="nextjs@example.com",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["visitor"] == [401, {"error": "sign in first"}]
    assert told["poor"] == [402, {"error": "not enough credits"}]
    assert told["before"]["available"] == 0
    assert told["paid"] == 200
    assert told["after"]["available"] == 1000
    assert "not on sale" in told["unknown"]
    assert told["spent"] == [200, {"text": "HELLO", "balance": 880}]
    assert told["again"] == told["spent"]
    assert told["failed"] == [500, "no model"]
    assert told["left"] == 880
    assert told["gone"] == told["visitor"]
