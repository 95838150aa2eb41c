import { deepEqual, equal, match, ok } from "node:assert/strict";
import { DatabaseUnavailable } from "../_tillbase/database.ts";
import { HttpError } from "../_tillbase/respond.ts";
import type { Step } from "../_tillbase/steps.ts";
import { handler } from "./handler.ts";
import type { Order, Session } from "./prepare.ts";

const USER = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff";
const ACCOUNT = "0b0d3c1e-6d0f-4c5f-9a35-6c7d1d1f0001";
const STEP: Step<Session> = {
  livemode: false,
  calls: [],
  state: {},
  is_last: false,
};
const SESSION = {
  id: "cs_1",
  url: "https://checkout.stripe.com/c/cs_1",
  expires_at: 1,
};
const ORDER: Order = {
  plan: "pro",
  pack: null,
  quantity: null,
  successUrl: null,
  cancelUrl: null,
  saveCard: false,
  accountId: null,
};

interface Click {
  method?: string;
  body?: unknown;
  identify?: () => Promise<string>;
  prepare?: () => Promise<Step<Session>>;
  carryOut?: () => Promise<Session>;
}

/** Clicks, and returns the answer with everything that was done for it, in order. */
async function click(how: Click = {}) {
  const did: unknown[][] = [];
  const does = <Result>(
    name: string,
    result: Result,
    instead?: () => Promise<Result>,
  ) =>
  (...args: unknown[]): Promise<Result> => {
    did.push([name, ...args]);
    return instead ? instead() : Promise.resolve(result);
  };
  const { method = "POST", body = { plan: "pro" } } = how;
  const request = new Request("http://localhost/checkout", {
    method,
    body: method === "POST"
      ? typeof body === "string" ? body : JSON.stringify(body)
      : undefined,
  });
  const { response, logged } = await withLog(() =>
    handler(request, {
      identify: how.identify ?? (() => Promise.resolve(USER)),
      prepare: does("prepare", STEP, how.prepare),
      carryOut: does("carry out", SESSION as Session, how.carryOut),
    })
  );
  const text = await response.text();
  const answer = text === "" ? null : JSON.parse(text);
  return { status: response.status, response, answer, did, logged };
}

async function withLog(run: () => Promise<Response>) {
  const logged: string[] = [];
  const original = console.error;
  console.error = (...parts: unknown[]) => void logged.push(parts.join(" "));
  try {
    return { response: await run(), logged };
  } finally {
    console.error = original;
  }
}

const fails = (error: unknown) => () => Promise.reject(error);

Deno.test("the step that the database prepares is carried out, and the session's id and URL are returned", async () => {
  const { status, answer, did, logged } = await click();
  deepEqual([status, answer], [200, {
    id: "cs_1",
    url: "https://checkout.stripe.com/c/cs_1",
  }]);
  deepEqual(did, [["prepare", USER, ORDER], ["carry out", STEP]]);
  deepEqual(logged, []);
});

Deno.test("only the fields that are known reach the database", async () => {
  const body = {
    pack: "p",
    quantity: 2,
    success_url: "https://a",
    cancel_url: "https://b",
    save_card: true,
    account_id: ACCOUNT,
    amount: 1,
    customer: "cus_of_another",
    user_id: "somebody",
  };
  const { did } = await click({ body });
  deepEqual(did[0], ["prepare", USER, {
    plan: null,
    pack: "p",
    quantity: 2,
    successUrl: "https://a",
    cancelUrl: "https://b",
    saveCard: true,
    accountId: ACCOUNT,
  }]);
});

Deno.test("who is not signed in, and what the database refuses, reaches nothing further", async () => {
  const refusal = new HttpError(401, "unauthorized", "Sign in.");
  const stranger = await click({ identify: fails(refusal) });
  deepEqual([stranger.status, stranger.did], [401, []]);
  const unknown = await click({
    prepare: fails(new HttpError(404, "price_unknown", "No such plan.")),
  });
  deepEqual([unknown.status, unknown.did.length], [404, 1]);
  deepEqual([...stranger.logged, ...unknown.logged], []);
});

Deno.test("fields of another type are refused before the database is asked", async () => {
  const bodies = [
    "[]",
    "null",
    '"x"',
    "{",
    "\u0000",
    { plan: 1 },
    { plan: "" },
    { plan: ["pro"] },
    { plan: "\u0000" },
    '{"plan": "\\ud800"}',
    { plan: "x".repeat(5000) },
    { plan: "pro", quantity: "1" },
    { plan: "pro", quantity: true },
    { plan: "pro", success_url: {} },
    { plan: "pro", save_card: "yes" },
    { plan: "pro", account_id: "1" },
  ];
  for (const body of bodies) {
    const { status, answer, did } = await click({ body });
    deepEqual([status, answer.error.code, did], [400, "invalid_request", []]);
  }
});

Deno.test("a preflight is answered, other methods are not, and every answer is readable for browsers", async () => {
  const preflight = await click({ method: "OPTIONS" });
  deepEqual([preflight.status, preflight.did], [204, []]);
  match(
    preflight.response.headers.get("access-control-allow-headers")!,
    /authorization/,
  );
  const get = await click({ method: "GET" });
  deepEqual([get.status, get.did], [405, []]);
  const prepare = fails(new Error());
  for (const { response } of [await click(), get, await click({ prepare })]) {
    equal(response.headers.get("access-control-allow-origin"), "*");
    equal(response.headers.get("cache-control"), "no-store");
  }
});

Deno.test("what the database refuses on the way is its status, and failures are logged in one line", async () => {
  const superseded = new HttpError(409, "superseded", "Another one.");
  const refused = await click({ carryOut: fails(superseded) });
  deepEqual([refused.status, refused.answer.error.code], [409, "superseded"]);
  deepEqual(refused.logged, []);

  const cause = { code: "TB062", message: "Stripe cannot be asked: timeout" };
  const headers = { "retry-after": "5" };
  const away = new HttpError(503, "stripe_unavailable", "Try again.", {
    headers,
    cause,
  });
  const failed = await click({ carryOut: fails(away) });
  deepEqual([failed.status, failed.answer.error], [503, {
    code: "stripe_unavailable",
    message: "Try again.",
  }]);
  match(failed.response.headers.get("retry-after")!, /^\d+$/);
  equal(failed.logged.length, 1);
  ok(failed.logged[0].includes(cause.message));

  const quoted =
    "No such customer: ada@example.com (key sk_test_abc123, secret whsec_def)";
  const { logged } = await click({ carryOut: fails(new Error(quoted)) });
  equal(
    JSON.parse(logged[0]).reason,
    "Error No such customer: [address] (key [secret], secret [secret])",
  );

  const gone = new DatabaseUnavailable(new Error("gone"));
  equal((await click({ carryOut: fails(gone) })).status, 503);
  equal((await click({ carryOut: fails(new Error("ours")) })).status, 500);
});
