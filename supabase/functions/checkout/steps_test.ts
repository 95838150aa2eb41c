import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import Stripe from "stripe";
import { HttpError } from "../_tillbase/respond.ts";
import { type Call, carrier, type Step } from "../_tillbase/steps.ts";

type Done = { id: string };
type Answers = Record<string, unknown>[];

const CREATE: Call = {
  method: "post",
  path: "/v1/customers",
  params: { email: "a+b@example.com", metadata: { account_id: "1" } },
  idempotency_key: "key",
  find: null,
  keep: ["id"],
};
const LOOK: Call = {
  method: "get",
  path: "/v1/customers",
  params: { "created[gte]": 1, email: "a+b@example.com", limit: 100 },
  idempotency_key: null,
  find: { tillbase_claim: "token" },
  keep: ["id"],
};
const READ: Call = {
  method: "get",
  path: "/v1/checkout/sessions/cs_1",
  params: {},
  idempotency_key: null,
  find: null,
  keep: ["status"],
};
const MADE = { id: "cus_1", email: "a+b@example.com", object: "customer" };

interface Sent {
  method: string;
  path: string;
  key: string | null;
  body: string;
}

/** A response with this status and body, or none at all. */
type Reply = [number, unknown] | Error;

/** Carries one step with these calls out, on the real library; what Stripe was sent, and what came back. */
async function carryOut(calls: Call[], ...replies: Reply[]) {
  const sent: Sent[] = [];
  const reply = (url: URL | string, init: RequestInit) => {
    const { pathname, search } = new URL(url);
    const headers = new Headers(init.headers);
    sent.push({
      method: init.method!,
      path: pathname + search,
      key: headers.get("idempotency-key"),
      body: String(init.body ?? ""),
    });
    const next = replies[sent.length - 1];
    if (next instanceof Error) return Promise.reject(next);
    const [status, body] = next;
    const text = typeof body === "string" ? body : JSON.stringify(body);
    return Promise.resolve(new Response(text, { status }));
  };
  const stripe = new Stripe("sk_test_x", {
    httpClient: Stripe.createFetchHttpClient(reply as typeof fetch),
    maxNetworkRetries: 0,
    telemetry: false,
  });
  const brought: { state: unknown; answers: Answers }[] = [];
  const modes: boolean[] = [];
  const run = carrier<Done>((state, answers) => {
    brought.push({ state, answers });
    return Promise.resolve({ done: { id: "done" } });
  }, (livemode) => {
    modes.push(livemode);
    return stripe;
  });
  const state = { key: "row", expire: [] };
  const step = { livemode: false, calls, state, is_last: false };
  const done = await run(step);
  deepEqual([done, modes], [{ id: "done" }, [false]]);
  deepEqual(brought.map(({ state }) => state), [state]);
  return { sent, answers: brought[0].answers };
}

const refusing = (code: string): Step<Done> => ({
  refused: { code, message: "stripe said: a secret" },
});
const unused = () => {
  throw new Error("not to be called");
};
const failed = (error: Record<string, unknown>): Reply => [
  error.status as number,
  { error: { message: "no", ...error } },
];

Deno.test("a result is given back, and neither Stripe nor the database is asked", async () => {
  const run = carrier<Done>(unused, unused);
  deepEqual(await run({ done: { id: "cs_1" } }), { id: "cs_1" });
});

Deno.test("a POST has its parameters form-encoded and its key, and only what is kept is brought back", async () => {
  const { sent, answers } = await carryOut([CREATE], [200, MADE]);
  deepEqual(sent, [{
    method: "POST",
    path: "/v1/customers",
    key: "key",
    body: "email=a%2Bb%40example.com&metadata[account_id]=1",
  }]);
  deepEqual(answers, [{ body: { id: "cus_1" } }]);
});

Deno.test("a GET has its parameters in the path", async () => {
  const read = await carryOut([READ], [200, { status: "open" }]);
  deepEqual(read.sent, [
    { method: "GET", path: READ.path, key: null, body: "" },
  ]);
  deepEqual(read.answers, [{ body: { status: "open" } }]);
  const [{ path }] =
    (await carryOut([LOOK], [200, { object: "list", data: [] }])).sent;
  equal(
    path,
    "/v1/customers?created%5Bgte%5D=1&email=a%2Bb%40example.com&limit=100",
  );
});

Deno.test("what is found by its metadata ends the calls, and what is not leads to the next", async () => {
  const someone = { id: "cus_x", metadata: { tillbase_claim: "guessed" } };
  const nobody = { id: "cus_y", metadata: {} };
  const ours = {
    id: "cus_ours",
    metadata: { tillbase_claim: "token", a: "b" },
  };
  const list = (...data: unknown[]): Reply => [200, { object: "list", data }];
  const found = await carryOut([LOOK, CREATE], list(someone, nobody, ours));
  deepEqual(found.answers, [{ body: { id: "cus_ours" } }]);
  const missed = await carryOut([LOOK, CREATE], list(someone, nobody), [
    200,
    MADE,
  ]);
  deepEqual(missed.answers, [{ body: null }, { body: { id: "cus_1" } }]);
});

Deno.test("calls are made in their order, up to the first that fails", async () => {
  const calls = ["cs_1", "cs_2", "cs_3"].map((id) => ({
    ...CREATE,
    path: `/v1/checkout/sessions/${id}/expire`,
    params: {},
    idempotency_key: null,
    keep: ["status"],
  }));
  const { sent, answers } = await carryOut(
    calls,
    [200, { status: "expired" }],
    failed({ status: 400, type: "invalid_request_error" }),
  );
  deepEqual(sent.map(({ path }) => path), calls.slice(0, 2).map((c) => c.path));
  ok(sent.every(({ key }) => key !== "key" && key !== ""));
  deepEqual(answers[0], { body: { status: "expired" } });
  equal((answers[1].error as Record<string, unknown>).status, 400);
});

Deno.test("a failure is reported with all that the database judges it by, and its key", async () => {
  const missing = {
    status: 400,
    type: "invalid_request_error",
    code: "resource_missing",
    param: "line_items[0][price]",
  };
  const none = { type: null, code: null, param: null };
  const cases: [Reply, Record<string, unknown>][] = [
    [failed(missing), missing],
    [failed({ status: 400, type: "idempotency_error" }), {
      ...none,
      status: 400,
      type: "idempotency_error",
    }],
    [failed({ status: 429, type: "invalid_request_error" }), {
      ...none,
      status: 429,
      type: "invalid_request_error",
    }],
    [failed({ status: 500, type: "api_error" }), {
      ...none,
      status: 500,
      type: "api_error",
    }],
    [failed({ status: 401, type: "invalid_request_error" }), {
      ...none,
      status: 401,
      type: "invalid_request_error",
    }],
  ];
  for (const [reply, expected] of cases) {
    const { answers } = await carryOut([CREATE], reply);
    const error = { ...expected, message: "no" };
    deepEqual(answers, [{ error, idempotency_key: "key" }]);
  }
});

Deno.test("where Stripe gave no answer there is no status", async () => {
  const replies: Reply[] = [
    new TypeError("connection refused"),
    [502, "<html>Bad gateway</html>"],
    [200, "<html>Sign in to the network</html>"],
    [200, { status: "a proxy's" }],
  ];
  for (const reply of replies) {
    const [{ error, ...more }] = (await carryOut([CREATE], reply)).answers;
    const { status, message } = error as Record<string, unknown>;
    equal(status, null);
    ok(message);
    deepEqual(more, { idempotency_key: "key" });
  }
});

Deno.test("a refusal is its status, and Stripe's words are for the log only", async () => {
  const cases: [string, number, string, boolean][] = [
    ["TB042", 404, "price_unknown", true],
    ["TB045", 409, "already_subscribed", true],
    ["TB062", 503, "stripe_unavailable", false],
    ["TB063", 502, "stripe_refused", false],
    ["TB064", 409, "superseded", true],
  ];
  for (const [code, status, name, isTold] of cases) {
    const run = carrier<Done>(unused, unused);
    await rejects(run(refusing(code)), (error: HttpError) => {
      deepEqual([error.status, error.code], [status, name]);
      equal(error.message.includes("secret"), isTold);
      match(JSON.stringify(error.options.cause), /secret/);
      equal(
        error.options.headers?.["retry-after"],
        status === 503 ? "5" : undefined,
      );
      return true;
    });
  }
});

Deno.test("a client that cannot be had, and an error of no Stripe's, end it", async () => {
  const unusable = new HttpError(503, "stripe_key_unusable", "No key.");
  const step = { livemode: true, calls: [CREATE], state: {}, is_last: false };
  await rejects(
    carrier<Done>(unused, () => {
      throw unusable;
    })(step),
    unusable,
  );
  const ours = new Error("a mistake of ours");
  const broken = { rawRequest: () => Promise.reject(ours) };
  await rejects(
    carrier<Done>(unused, () => broken as unknown as Stripe)(step),
    ours,
  );
});

Deno.test("the last answer of a last step is the result, and only its failure is brought to the database", async () => {
  const step = { livemode: false, calls: [READ], state: {}, is_last: true };
  const answering = (rawRequest: () => Promise<unknown>) =>
    (() => ({ rawRequest })) as unknown as () => Stripe;
  const session = { status: "open", more: 1 };
  const run = carrier(unused, answering(() => Promise.resolve(session)));
  deepEqual(await run(step), { status: "open" });
  const away = new Stripe.errors.StripeAPIError({ message: "no" } as never);
  const failing = carrier<Done>(
    () => Promise.resolve(refusing("TB062")),
    answering(() => Promise.reject(away)),
  );
  await rejects(failing(step), { status: 503 });
});

Deno.test("steps that lead in a circle end", async () => {
  let count = 0;
  const step = { livemode: false, calls: [], state: {}, is_last: false };
  const run = carrier<Done>(() => {
    count += 1;
    return Promise.resolve(step);
  }, () => ({}) as Stripe);
  await rejects(run(step), /50 steps/);
  equal(count, 50);
});
