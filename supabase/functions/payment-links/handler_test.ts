import { deepEqual, equal, match } from "node:assert/strict";
import { HttpError } from "../_tillbase/respond.ts";
import type { Step } from "../_tillbase/steps.ts";
import { handler } from "./handler.ts";
import type { Link, Prepared } from "./prepare.ts";

const USER = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff";
const REFERENCE = "tb1_t_1_signed";
const URL_OF_LINK = "https://buy.stripe.com/1";
const SIGNED = `${URL_OF_LINK}?client_reference_id=${REFERENCE}`;
const STEP: Step<Link> = {
  livemode: false,
  calls: [],
  state: {},
  is_last: false,
};
const LINKS = [{ name: "pro", step: STEP }];

interface Ask {
  query?: string;
  method?: string;
  links?: Prepared["links"];
  identify?: () => Promise<string>;
  prepare?: () => Promise<Prepared>;
  carryOut?: (step: Step<Link>) => Promise<Link>;
}

async function ask(how: Ask = {}) {
  const did: unknown[][] = [];
  const original = console.error;
  console.error = () => {};
  try {
    const response = await handler(
      new Request(`http://localhost/payment-links${how.query ?? "?plan=pro"}`, {
        method: how.method ?? "GET",
      }),
      {
        identify: how.identify ?? (() => Promise.resolve(USER)),
        prepare: (...args) => {
          did.push(["prepare", ...args]);
          const { links = LINKS } = how;
          return how.prepare?.() ??
            Promise.resolve({ links, reference: REFERENCE });
        },
        carryOut: (step) => {
          did.push(["carry out", step]);
          return how.carryOut?.(step) ?? Promise.resolve({ url: URL_OF_LINK });
        },
      },
    );
    const text = await response.text();
    return {
      status: response.status,
      response,
      answer: text ? JSON.parse(text) : null,
      did,
      names: did.map(([name]) => name),
    };
  } finally {
    console.error = original;
  }
}

const fails = (error: unknown) => () => Promise.reject(error);

Deno.test("the step that the database prepares is carried out, and the URL names the account", async () => {
  const { status, answer, did } = await ask();
  deepEqual([status, answer], [200, { payment_link: SIGNED }]);
  deepEqual(did, [
    ["prepare", USER, { plan: "pro", pack: null, accountId: null }],
    ["carry out", STEP],
  ]);
});

Deno.test("without a plan there is a link for each, by name, five at once", async () => {
  const links = Array.from({ length: 7 }, (_, n) => ({
    name: `plan_${n}`,
    step: { done: { url: `https://buy/${n}?x=1` } },
  }));
  let now = 0, most = 0;
  const carryOut = async (step: Step<Link>) => {
    most = Math.max(most, ++now);
    await Promise.resolve();
    now -= 1;
    return (step as { done: Link }).done;
  };
  const { answer } = await ask({ links, query: "", carryOut });
  deepEqual(Object.keys(answer.payment_links), links.map(({ name }) => name));
  equal(
    answer.payment_links.plan_6,
    `https://buy/6?x=1&client_reference_id=${REFERENCE}`,
  );
  equal(most, 5);
  deepEqual((await ask({ links: [], query: "" })).answer, {
    payment_links: {},
  });
});

Deno.test("the query cannot name the payer", async () => {
  const query = "?plan=pro&client_reference_id=x&user_id=y&price=z&amount=1";
  const { did, answer } = await ask({ query });
  deepEqual(did[0], ["prepare", USER, {
    plan: "pro",
    pack: null,
    accountId: null,
  }]);
  equal(answer.payment_link, SIGNED);
});

Deno.test("what makes no sense reaches nothing", async () => {
  for (
    const query of ["?plan=", "?pack=", "?account_id=1", "?plan=%00", "?plan="]
  ) {
    const { status, did } = await ask({ query });
    deepEqual([status, did], [400, []], query);
  }
  for (const method of ["POST", "PUT", "DELETE"]) {
    const { status, did, response } = await ask({ method });
    deepEqual([status, did], [405, []]);
    equal(response.headers.get("allow"), "GET, OPTIONS");
  }
  const preflight = await ask({ method: "OPTIONS" });
  deepEqual([preflight.status, preflight.did], [204, []]);
  equal(
    preflight.response.headers.get("access-control-allow-methods"),
    "GET, OPTIONS",
  );
});

Deno.test("refusals reach nothing further", async () => {
  const stranger = new HttpError(401, "unauthorized", "Sign in.");
  deepEqual((await ask({ identify: fails(stranger) })).did, []);
  const unknown = new HttpError(404, "price_unknown", "No such plan.");
  const { status, names, response } = await ask({ prepare: fails(unknown) });
  deepEqual([status, names], [404, ["prepare"]]);
  equal(response.headers.get("access-control-allow-origin"), "*");
});

Deno.test("what is refused on the way is its status, and says when to come again", async () => {
  const superseded = new HttpError(409, "superseded", "Ask again.");
  const { status, answer } = await ask({ carryOut: fails(superseded) });
  deepEqual([status, answer.error.code], [409, "superseded"]);
  const away = new HttpError(503, "stripe_unavailable", "Try again.", {
    headers: { "retry-after": "5" },
  });
  const { response } = await ask({ carryOut: fails(away) });
  equal(response.status, 503);
  match(response.headers.get("retry-after")!, /^\d+$/);
});
