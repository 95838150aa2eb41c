import { deepEqual, equal, ok, rejects, throws } from "node:assert/strict";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { readText } from "../_tillbase/body.ts";
import { judged } from "../_tillbase/refusals.ts";
import { HttpError } from "../_tillbase/respond.ts";
import { stripeClient } from "../_tillbase/stripe.ts";
import { identifier } from "../_tillbase/user.ts";

const USER = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff";
const ISSUER = "https://abc.supabase.co/auth/v1";
const GOOD = {
  sub: USER,
  role: "authenticated",
  aud: "authenticated",
  iss: ISSUER,
  exp: 4_000_000_000,
  is_anonymous: false,
};
const KEYS = await generateKeyPair("ES256", { extractable: true });
const PUBLIC = await exportJWK(KEYS.publicKey);
const SECRET = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA";
const JWKS = JSON.stringify({ keys: [{ ...PUBLIC, kid: "1" }] });

function signed(
  claims: Record<string, unknown>,
  header: { alg: string; kid?: string } = { alg: "ES256", kid: "1" },
  key: CryptoKey | Uint8Array = KEYS.privateKey,
): Promise<string> {
  return new SignJWT(claims).setProtectedHeader(header).sign(key);
}

/** Whom a token identifies, in a function with these settings. */
function identify(
  token: string | null,
  env: Record<string, string> = {},
): Promise<string> {
  const settings: Record<string, string> = {
    SUPABASE_URL: "https://abc.supabase.co/",
    SUPABASE_JWKS: JWKS,
    ...env,
  };
  const headers: HeadersInit = token === null
    ? {}
    : { authorization: `Bearer ${token}` };
  const request = new Request("http://localhost", { headers });
  return identifier((name) => settings[name])(request);
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

Deno.test("a token is held against the project's address, or the issuers that are named", async () => {
  equal(await identify(await signed(GOOD)), USER);
  const kong = { SUPABASE_URL: "http://kong:8000", BILLING_JWT_ISSUER: "a, b" };
  for (const iss of ["a", "b"]) {
    equal(await identify(await signed({ ...GOOD, iss }), kong), USER);
  }
  await rejects(identify(await signed(GOOD), kong), status(401));
  const local = { SUPABASE_URL: "" };
  const iss = "http://127.0.0.1/auth/v1";
  equal(await identify(await signed({ ...GOOD, iss }), local), USER);
});

Deno.test("a verified token of anybody but a signed-in user is a 401", async () => {
  const others = [
    { ...GOOD, role: "anon" },
    { ...GOOD, role: "service_role" },
    { ...GOOD, role: undefined },
    { ...GOOD, aud: "anon" },
    { ...GOOD, aud: undefined },
    { ...GOOD, iss: undefined },
    { ...GOOD, sub: undefined },
    { ...GOOD, sub: "1' or '1" },
    { ...GOOD, exp: undefined },
    { ...GOOD, exp: 1_000_000_000 },
    { ...GOOD, nbf: 4_000_000_000 },
    { ...GOOD, is_anonymous: true },
  ];
  for (const claims of others) {
    await rejects(identify(await signed(claims)), status(401));
  }
});

Deno.test("a token that the project did not sign is a 401", async () => {
  const stranger = await generateKeyPair("ES256");
  const encode = (value: unknown) => btoa(JSON.stringify(value));
  const good = await signed(GOOD);
  const forged = [
    null,
    "",
    "x",
    "a.b.c",
    `${good}x`,
    await signed(GOOD, undefined, stranger.privateKey),
    await signed(GOOD, { alg: "ES256", kid: "2" }),
    `${encode({ alg: "none" })}.${encode(GOOD)}.`,
    // The public key, taken for a shared secret.
    await signed(
      GOOD,
      { alg: "HS256", kid: "1" },
      new TextEncoder().encode(JSON.stringify(PUBLIC)),
    ),
    await signed(GOOD, { alg: "HS256" }, new Uint8Array(32)),
  ];
  for (const token of forged) await rejects(identify(token), status(401));
});

Deno.test("the shared secret of an older project verifies, too", async () => {
  const keys = [{ kty: "oct", k: SECRET, alg: "HS256" }, {
    ...PUBLIC,
    kid: "1",
  }];
  const env = { SUPABASE_JWKS: JSON.stringify({ keys }) };
  const secret = new TextEncoder().encode(
    "secret-secret-secret-secret-secret",
  );
  equal(
    await identify(await signed(GOOD, { alg: "HS256" }, secret), env),
    USER,
  );
  equal(await identify(await signed(GOOD), env), USER);
  const other = signed(GOOD, { alg: "HS256" }, new Uint8Array(32));
  await rejects(identify(await other, env), status(401));
});

Deno.test("keys that cannot be read are our failure, not the caller's", async () => {
  const token = await signed(GOOD);
  for (const jwks of ["", " ", "{", "null", "{}", '{"keys": []}']) {
    await rejects(identify(token, { SUPABASE_JWKS: jwks }), status(503));
    // A caller who is not signed in gets the same answer.
    await rejects(identify(null, { SUPABASE_JWKS: jwks }), status(401));
  }
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
