import { deepEqual, equal, match, ok } from "node:assert/strict";
import Stripe from "stripe";
import { DatabaseUnavailable } from "../_tillbase/database.ts";
import { HttpError } from "../_tillbase/respond.ts";
import type { Books, Checkout, Claim, Order } from "./books.ts";
import { handler } from "./handler.ts";

const USER = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff";
const CLAIM: Claim = {
  account_id: "0b0d3c1e-6d0f-4c5f-9a35-6c7d1d1f0001",
  token: "0b0d3c1e-6d0f-4c5f-9a35-6c7d1d1f0002",
  idempotency_key: "key of the customer",
  params: { email: "ada@example.com" },
  lookup: null,
};
const CHECKOUT: Checkout = {
  livemode: false,
  customer: { id: "cus_1" },
  session: {
    params: { mode: "subscription", line_items: [{ price: "price_1" }] },
    idempotency_key: "key of the session",
  },
  superseded: [],
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
  prepare?: () => Promise<Checkout>;
  checkout?: Partial<Checkout>;
  list?: () => Promise<unknown>;
  createCustomer?: () => Promise<unknown>;
  createSession?: () => Promise<unknown>;
  link?: () => Promise<string>;
  record?: () => Promise<boolean>;
  expire?: () => Promise<unknown>;
  retrieve?: () => Promise<unknown>;
}

/** Clicks, and returns the answer with everything that was asked of the database and of Stripe, in order. */
async function click(how: Click = {}) {
  const did: unknown[][] = [];
  const does = (name: string, result: unknown, instead?: () => unknown) =>
  // deno-lint-ignore no-explicit-any
  (...args: unknown[]): Promise<any> => {
    did.push([name, ...args]);
    return instead ? instead() as Promise<unknown> : Promise.resolve(result);
  };
  const books: Books = {
    prepare: does("prepare", { ...CHECKOUT, ...how.checkout }, how.prepare),
    link: does("link", "cus_linked", how.link),
    record: does("record", true, how.record),
    discard: does("discard", undefined),
  };
  const session = { id: "cs_1", url: "https://checkout.stripe.com/c/cs_1" };
  const stripe = {
    customers: {
      list: does("list customers", { data: [] }, how.list),
      create: does("create customer", { id: "cus_new" }, how.createCustomer),
    },
    checkout: {
      sessions: {
        create: does("create session", session, how.createSession),
        expire: does("expire", { status: "expired" }, how.expire),
        retrieve: does("retrieve", { status: "expired" }, how.retrieve),
      },
    },
  } as unknown as Stripe;
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
      books,
      stripe: () => stripe,
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
const broken = (statusCode: number) =>
  new Stripe.errors.StripeAPIError({ statusCode, message: "broken" } as never);

const SESSION_CALL = ["create session", {
  ...CHECKOUT.session.params,
  customer: "cus_1",
}, { idempotencyKey: "key of the session" }];
const RECORDED = ["record", "key of the session", "cs_1", []];

Deno.test("a known customer's session is opened as the database says, and recorded", async () => {
  const { status, answer, did, logged } = await click();
  deepEqual([status, answer], [200, {
    id: "cs_1",
    url: "https://checkout.stripe.com/c/cs_1",
  }]);
  deepEqual(did, [["prepare", USER, ORDER], SESSION_CALL, RECORDED]);
  deepEqual(logged, []);
});

Deno.test("only the fields that are known reach the database", async () => {
  const body = {
    pack: "p",
    quantity: 2,
    success_url: "https://a",
    cancel_url: "https://b",
    save_card: true,
    account_id: CLAIM.account_id,
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
    accountId: CLAIM.account_id,
  }]);
});

Deno.test("a new customer is made under the claim's key, linked, and what was linked is charged", async () => {
  const { did } = await click({ checkout: { customer: CLAIM } });
  deepEqual(did.slice(1, 4), [
    ["create customer", CLAIM.params, {
      idempotencyKey: "key of the customer",
    }],
    ["link", CLAIM, "cus_new"],
    ["create session", {
      ...CHECKOUT.session.params,
      customer: "cus_linked",
    }, { idempotencyKey: "key of the session" }],
  ]);
});

Deno.test("a customer that may exist is looked for by the claim's token, and made when it is not there", async () => {
  const customer = { ...CLAIM, lookup: { email: "ada@example.com" } };
  const someone = { id: "cus_x", metadata: { tillbase_claim: "guessed" } };
  const ours = { id: "cus_ours", metadata: { tillbase_claim: CLAIM.token } };
  const list = () => Promise.resolve({ data: [someone, ours] });
  const found = await click({ checkout: { customer }, list });
  deepEqual(found.did.slice(1, 3), [
    ["list customers", customer.lookup],
    ["link", customer, "cus_ours"],
  ]);
  const other = () => Promise.resolve({ data: [someone] });
  const missed = await click({ checkout: { customer }, list: other });
  deepEqual(missed.did[2][0], "create customer");
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

Deno.test("failures of Stripe that pass are 503, and say when to come again", async () => {
  const { StripeConnectionError, StripeRateLimitError } = Stripe.errors;
  const failures = [
    new StripeConnectionError({ message: "timeout" } as never),
    new StripeRateLimitError({ statusCode: 429 } as never),
    broken(500),
    broken(409),
  ];
  for (const failure of failures) {
    const { status, answer, response, logged } = await click({
      createSession: fails(failure),
    });
    deepEqual([status, answer.error.code], [503, "stripe_unavailable"]);
    match(response.headers.get("retry-after")!, /^\d+$/);
    equal(logged.length, 1);
  }
});

Deno.test("a key is given up exactly when Stripe keeps its failure", async () => {
  const kept = [
    broken(500),
    broken(503),
    new Stripe.errors.StripeIdempotencyError({ statusCode: 400 } as never),
  ];
  const passing = [
    broken(409),
    new Stripe.errors.StripeRateLimitError({ statusCode: 429 } as never),
    new Stripe.errors.StripeConnectionError({ message: "gone" } as never),
  ];
  for (const failure of [...kept, ...passing]) {
    const ofSession = await click({ createSession: fails(failure) });
    const ofCustomer = await click({
      createCustomer: fails(failure),
      checkout: { customer: CLAIM },
    });
    const given_up = kept.includes(failure);
    const last = (did: unknown[][]) =>
      did.filter(([name]) => name === "discard").map(([, key]) => key);
    deepEqual(last(ofSession.did), given_up ? ["key of the session"] : []);
    deepEqual(last(ofCustomer.did), given_up ? ["key of the customer"] : []);
    ok(!ofCustomer.did.some(([name]) => name === "link"));
  }
});

Deno.test("what Stripe refuses is a 502, and only the log says what", async () => {
  const message = "No such price: 'price_1'";
  const refusal = new Stripe.errors.StripeInvalidRequestError(
    { statusCode: 400, message } as never,
  );
  const { status, answer, logged } = await click({
    createSession: fails(refusal),
  });
  deepEqual([status, answer.error.code], [502, "stripe_refused"]);
  ok(!JSON.stringify(answer).includes(message));
  ok(logged[0].includes(message));
});

Deno.test("a price that was deleted in Stripe a moment ago is not on sale", async () => {
  const refuse = (param: string) =>
    new Stripe.errors.StripeInvalidRequestError({
      statusCode: 400,
      code: "resource_missing",
      message: "No such price: 'price_1'",
      param,
    } as never);
  const ofPrice = await click({
    createSession: fails(refuse("line_items[0][price]")),
  });
  deepEqual([ofPrice.status, ofPrice.answer.error.code], [
    404,
    "price_unknown",
  ]);
  const ofOther = await click({ createSession: fails(refuse("customer")) });
  deepEqual([ofOther.status, ofOther.answer.error.code], [
    502,
    "stripe_refused",
  ]);
});

Deno.test("without a link there is no session", async () => {
  const { status, did } = await click({
    checkout: { customer: CLAIM },
    link: fails(new DatabaseUnavailable(new Error("gone"))),
  });
  equal(status, 503);
  equal(did.at(-1)![0], "link");
});

Deno.test("other sessions that could be paid too are expired first", async () => {
  const superseded = ["cs_a", "cs_b"];
  const gone = new Stripe.errors.StripeInvalidRequestError(
    { statusCode: 400, message: "not open" } as never,
  );
  const well = await click({ checkout: { superseded } });
  deepEqual(well.did.slice(1), [
    ["expire", "cs_a"],
    ["expire", "cs_b"],
    SESSION_CALL,
    ["record", "key of the session", "cs_1", superseded],
  ]);
  const already = await click({
    checkout: { superseded },
    expire: fails(gone),
  });
  equal(already.status, 200);
  const paid = await click({
    checkout: { superseded },
    expire: fails(gone),
    retrieve: () => Promise.resolve({ status: "complete" }),
  });
  deepEqual([paid.status, paid.answer.error.code], [409, "already_subscribed"]);
  const away = await click({
    checkout: { superseded },
    expire: fails(broken(500)),
  });
  equal(away.status, 503);
  for (const { did } of [paid, away]) {
    deepEqual(did.filter(([name]) => name === "create session"), []);
  }
});

Deno.test("a session that was superseded while it was opened is expired, and its address is told to nobody", async () => {
  const { status, answer, did } = await click({
    record: () => Promise.resolve(false),
  });
  deepEqual([status, answer.error.code], [409, "superseded"]);
  deepEqual(did.at(-1), ["expire", "cs_1"]);
});
