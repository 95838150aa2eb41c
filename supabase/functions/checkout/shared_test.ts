import { deepEqual, equal, ok, rejects, throws } from "node:assert/strict";
import { readText } from "../_shared/body.ts";
import { judged } from "../_shared/refusals.ts";
import { HttpError } from "../_shared/respond.ts";
import { stripeClient } from "../_shared/stripe.ts";
import { identifier } from "../_shared/user.ts";

const USER = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff";
const GOOD = {
  sub: USER,
  role: "authenticated",
  exp: 4_000_000_000,
  is_anonymous: false,
};

/** What a token with these claims identifies, and what its verifier was asked to insist on. */
async function identify(
  jwtClaims: Record<string, unknown> | null,
  env: Record<string, string> = {},
  error: { status: number; message: string } | null = null,
) {
  const asked: unknown[] = [];
  const verify = (_: Request, options: unknown) => {
    asked.push(options);
    return Promise.resolve({ data: error ? null : { jwtClaims }, error });
  };
  const request = new Request("http://localhost");
  return {
    user: await identifier(verify, (name) => env[name])(request),
    asked: asked[0],
  };
}

function status(expected: number) {
  return (error: unknown) =>
    error instanceof HttpError && error.status === expected;
}

Deno.test("a body that does not come to its end is left at the deadline", async () => {
  let isLeft = false;
  const body = new ReadableStream({
    start: (controller) => controller.enqueue(new Uint8Array(1)),
    pull: () => new Promise(() => {}),
    cancel: () => {
      isLeft = true;
    },
  });
  const request = new Request("http://localhost", { method: "POST", body });
  await rejects(readText(request, 1_000_000, 50), status(408));
  ok(isLeft);
});

Deno.test("a token is held against audience, issuer and the project's address", async () => {
  const cases: [Record<string, string>, string, string[]][] = [
    [
      { SUPABASE_URL: "https://abc.supabase.co/" },
      "https://abc.supabase.co/",
      ["https://abc.supabase.co/auth/v1"],
    ],
    [
      { SUPABASE_URL: "http://kong:8000", BILLING_JWT_ISSUER: "a, b" },
      "http://kong:8000",
      ["a", "b"],
    ],
    [{}, "http://127.0.0.1", ["http://127.0.0.1/auth/v1"]],
  ];
  for (const [env, url, issuer] of cases) {
    const { user, asked } = await identify(GOOD, env);
    equal(user, USER);
    deepEqual(asked, {
      auth: "user",
      audience: "authenticated",
      issuer,
      env: { url },
    });
  }
});

Deno.test("a verified token of anybody but a signed-in user is a 401", async () => {
  const others = [
    null,
    { ...GOOD, role: "anon" },
    { ...GOOD, role: "service_role" },
    { ...GOOD, role: undefined },
    { ...GOOD, sub: undefined },
    { ...GOOD, sub: "1' or '1" },
    { ...GOOD, exp: undefined },
    { ...GOOD, is_anonymous: true },
  ];
  for (const claims of others) await rejects(identify(claims), status(401));
  const refused = { status: 401, message: "expired" };
  await rejects(identify(GOOD, {}, refused), status(401));
});

Deno.test("keys that cannot be read are our failure, not the caller's", async () => {
  const error = { status: 500, message: "no JWKS" };
  await rejects(identify(null, {}, error), status(503));
});

Deno.test("codes of ours are refusals, everything else stays what it was", async () => {
  const raised = (code: string) =>
    judged(
      Promise.reject(
        Object.assign(new Error("account 1 is frozen: Radar"), { code }),
      ),
    );
  await rejects(
    raised("TB003"),
    (error: HttpError) =>
      error.status === 403 && error.code === "account_frozen" &&
      !error.message.includes("Radar"),
  );
  await rejects(
    raised("TB049"),
    (error: HttpError) =>
      error.status === 429 && error.options.headers?.["retry-after"] === "60",
  );
  for (const code of ["23505", "TB001", "toString", "__proto__"]) {
    await rejects(raised(code), (error) => !(error instanceof HttpError));
  }
  equal(await judged(Promise.resolve(1)), 1);
});

Deno.test("a key of the other mode, or none, is not used", () => {
  for (
    const [apiKey, livemode] of [
      ["", false],
      ["", true],
      ["sk_test_x", true],
      ["rk_live_x", false],
      ["sk_live_x", false],
    ] as const
  ) {
    throws(() => stripeClient({ apiKey })(livemode), status(503));
  }
  ok(stripeClient({ apiKey: "rk_live_x" })(true));
});

Deno.test("a user waits for Stripe for seconds, not for a minute and more", () => {
  const client = stripeClient({
    apiKey: "sk_test_x",
    apiBase: "http://127.0.0.1:1",
  })(false);
  equal(client.getApiField("timeout"), 4_000);
  equal(client.getMaxNetworkRetries(), 1);
  deepEqual(
    [client.getApiField("host"), client.getApiField("port")],
    ["127.0.0.1", "1"],
  );
});
