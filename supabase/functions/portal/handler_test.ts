import { deepEqual, equal, match } from "node:assert/strict";
import Stripe from "stripe";
import { HttpError } from "../_tillbase/respond.ts";
import { handler } from "./handler.ts";
import type { Portal } from "./prepare.ts";

const USER = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff";
const URL_OF_PORTAL = "https://billing.stripe.com/p/session/1";
const PORTAL: Portal = { livemode: false, params: { customer: "cus_1" } };

interface Click {
  body?: string;
  identify?: () => Promise<string>;
  prepare?: () => Promise<Portal>;
  create?: () => Promise<unknown>;
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
    const create = (...args: unknown[]) => {
      did.push(["create", ...args]);
      return how.create?.() ?? Promise.resolve({ url: URL_OF_PORTAL });
    };
    const response = await handler(request, {
      identify: how.identify ?? (() => Promise.resolve(USER)),
      prepare: (...args) => {
        did.push(["prepare", ...args]);
        return how.prepare?.() ?? Promise.resolve(PORTAL);
      },
      stripe: () =>
        ({ billingPortal: { sessions: { create } } }) as unknown as Stripe,
    });
    const answer = await response.json();
    return { status: response.status, response, answer, did };
  } finally {
    console.error = original;
  }
}

const fails = (error: unknown) => () => Promise.reject(error);

Deno.test("the portal is what the database says, and only its address is told", async () => {
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
    ["create", PORTAL.params],
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
  const away = new Stripe.errors.StripeConnectionError(
    { message: "timeout" } as never,
  );
  const { status, response } = await click({ create: fails(away) });
  equal(status, 503);
  match(response.headers.get("retry-after")!, /^\d+$/);
});
