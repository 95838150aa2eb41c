import { deepEqual, equal, match } from "node:assert/strict";
import { HttpError } from "../_tillbase/respond.ts";
import type { Step } from "../_tillbase/steps.ts";
import { handler } from "./handler.ts";
import type { Session } from "./prepare.ts";

const USER = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff";
const URL_OF_PORTAL = "https://billing.stripe.com/p/session/1";
const STEP: Step<Session> = {
  livemode: false,
  calls: [],
  state: {},
  is_last: false,
};

interface Click {
  body?: string;
  identify?: () => Promise<string>;
  prepare?: () => Promise<Step<Session>>;
  carryOut?: () => Promise<Session>;
}

async function click(how: Click = {}) {
  const did: unknown[][] = [];
  const original = console.error;
  console.error = () => {};
  try {
    const request = new Request("http://localhost/portal", {
      method: "POST",
      body: how.body ?? "{}",
    });
    const response = await handler(request, {
      identify: how.identify ?? (() => Promise.resolve(USER)),
      prepare: (...args) => {
        did.push(["prepare", ...args]);
        return how.prepare?.() ?? Promise.resolve(STEP);
      },
      carryOut: (step) => {
        did.push(["carry out", step]);
        const session = { id: "bps_1", url: URL_OF_PORTAL };
        return how.carryOut?.() ?? Promise.resolve(session);
      },
    });
    const answer = await response.json();
    return { status: response.status, response, answer, did };
  } finally {
    console.error = original;
  }
}

const fails = (error: unknown) => () => Promise.reject(error);

Deno.test("the database decides the portal, and only its address is returned", async () => {
  const body = JSON.stringify({
    return_url: "https://a",
    flow: "cancel",
    customer: "cus_of_another",
  });
  const { status, answer, did } = await click({ body });
  deepEqual([status, answer], [200, { url: URL_OF_PORTAL }]);
  deepEqual(did, [
    ["prepare", USER, {
      returnUrl: "https://a",
      flow: "cancel",
      accountId: null,
    }],
    ["carry out", STEP],
  ]);
});

Deno.test("a body is not needed, and one that makes no sense is refused", async () => {
  equal((await click({ body: "" })).status, 200);
  for (const body of ["[]", "{", '{"flow": 1}', '{"return_url": []}']) {
    const { status, did } = await click({ body });
    deepEqual([status, did], [400, []]);
  }
});

Deno.test("refusals reach nothing further", async () => {
  const stranger = new HttpError(401, "unauthorized", "Sign in.");
  deepEqual((await click({ identify: fails(stranger) })).did, []);
  const none = new HttpError(409, "no_customer", "Nothing was bought yet.");
  const { status, did } = await click({ prepare: fails(none) });
  deepEqual([status, did.length], [409, 1]);
});

Deno.test("when Stripe is away the answer says when to come again", async () => {
  const away = new HttpError(503, "stripe_unavailable", "Try again.", {
    headers: { "retry-after": "5" },
  });
  const { status, response } = await click({ carryOut: fails(away) });
  equal(status, 503);
  match(response.headers.get("retry-after")!, /^\d+$/);
});
