import { deepEqual, equal, match } from "node:assert/strict";
import Stripe from "stripe";
import { HttpError } from "../_tillbase/respond.ts";
import type { Books, Claim, Link, Made, Prepared } from "./books.ts";
import { handler } from "./handler.ts";

const USER = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff";
const REFERENCE = "tb1_t_1_signed";
const MADE: Made = {
  name: "pro",
  id: "plink_1",
  url: "https://buy.stripe.com/1",
  check: false,
};
const CLAIM: Claim = {
  name: "pro",
  token: "row",
  idempotency_key: "key",
  params: { line_items: [{ price: "price_1", quantity: 1 }] },
  lookup: null,
};
const NEW = { id: "plink_2", url: "https://buy.stripe.com/2", metadata: {} };
const SIGNED_NEW = `${NEW.url}?client_reference_id=${REFERENCE}`;

interface Ask {
  query?: string;
  method?: string;
  links?: Link[];
  identify?: () => Promise<string>;
  prepare?: () => Promise<Prepared>;
  note?: () => Promise<string | null>;
  replaced?: Link;
  retrieve?: () => Promise<unknown>;
  list?: unknown[];
  create?: () => Promise<unknown>;
}

async function ask(how: Ask = {}) {
  const did: unknown[][] = [];
  const original = console.error;
  console.error = () => {};
  const doing = <T>(name: string, result: () => Promise<T>) =>
  (
    ...args: unknown[]
  ) => {
    did.push([name, ...args]);
    return result();
  };
  const books = {
    prepare: doing(
      "prepare",
      how.prepare ?? (() =>
        Promise.resolve({
          livemode: false,
          links: how.links ?? [CLAIM],
          reference: REFERENCE,
        })),
    ),
    note: doing("note", how.note ?? (() => Promise.resolve(NEW.url))),
    confirm: doing("confirm", () => Promise.resolve()),
    replace: doing("replace", () => Promise.resolve(how.replaced ?? CLAIM)),
    discard: doing("discard", () => Promise.resolve()),
  } as Books;
  const paymentLinks = {
    retrieve: doing("retrieve", how.retrieve ?? (() => Promise.resolve(NEW))),
    list: doing("list", () => Promise.resolve({ data: how.list ?? [] })),
    create: doing("create", how.create ?? (() => Promise.resolve(NEW))),
  };
  try {
    const response = await handler(
      new Request(`http://localhost/payment-links${how.query ?? "?plan=pro"}`, {
        method: how.method ?? "GET",
      }),
      {
        identify: how.identify ?? (() => Promise.resolve(USER)),
        books,
        stripe: () => ({ paymentLinks }) as unknown as Stripe,
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
const stripeError = (
  kind: keyof typeof Stripe.errors,
  statusCode: number,
) =>
  new (Stripe.errors[kind] as new (raw: unknown) => Error)({
    message: "no",
    statusCode,
  });

Deno.test("a link is made under the row's key, noted, and names the account", async () => {
  const { status, answer, did } = await ask();
  deepEqual([status, answer], [200, { payment_link: SIGNED_NEW }]);
  deepEqual(did, [
    ["prepare", USER, { plan: "pro", pack: null, accountId: null }],
    ["create", CLAIM.params, { idempotencyKey: "key" }],
    ["note", "row", NEW.id, NEW.url],
  ]);
});

Deno.test("a link that was made is handed out, and confirmed when that is due", async () => {
  const known = await ask({ links: [MADE] });
  deepEqual(known.names, ["prepare"]);
  equal(
    known.answer.payment_link,
    `${MADE.url}?client_reference_id=${REFERENCE}`,
  );
  const due = await ask({
    links: [{ ...MADE, check: true }],
    retrieve: () => Promise.resolve({ active: true }),
  });
  deepEqual(due.names, ["prepare", "retrieve", "confirm"]);
  deepEqual(due.answer, known.answer);
});

Deno.test("a link that is gone or inactive in Stripe is made anew", async () => {
  const links = [{ ...MADE, check: true }];
  const gone = fails(stripeError("StripeInvalidRequestError", 404));
  const inactive = () => Promise.resolve({ active: false });
  for (const retrieve of [gone, inactive]) {
    const { answer, names, did } = await ask({ links, retrieve });
    deepEqual(names, ["prepare", "retrieve", "replace", "create", "note"]);
    deepEqual(did[2], ["replace", MADE.id, MADE.name]);
    equal(answer.payment_link, SIGNED_NEW);
  }
});

Deno.test("what may have been made before is looked for first", async () => {
  const lookup = { active: true, limit: 100 };
  const found = { ...NEW, metadata: { tillbase_link: "row" } };
  const other = { ...NEW, id: "plink_9", metadata: { tillbase_link: "x" } };
  const links = [{ ...CLAIM, lookup }];
  const made = await ask({ links, list: [other, found] });
  deepEqual(made.names, ["prepare", "list", "note"]);
  deepEqual(made.did.at(-1), ["note", "row", NEW.id, NEW.url]);
  const none = await ask({ links, list: [other] });
  deepEqual(none.names, ["prepare", "list", "create", "note"]);
});

Deno.test("without a plan there is a link for each, by name", async () => {
  const links = Array.from(
    { length: 7 },
    (_, n) => ({ ...MADE, name: `plan_${n}`, url: `https://buy/${n}?x=1` }),
  );
  const { answer } = await ask({ links, query: "" });
  deepEqual(Object.keys(answer.payment_links), links.map(({ name }) => name));
  equal(
    answer.payment_links.plan_6,
    `https://buy/6?x=1&client_reference_id=${REFERENCE}`,
  );
  deepEqual((await ask({ links: [], query: "" })).answer, {
    payment_links: {},
  });
});

Deno.test("whoever pays is nobody that the query could name", async () => {
  const query = "?plan=pro&client_reference_id=x&user_id=y&price=z&amount=1";
  const { did, answer } = await ask({ query });
  deepEqual(did[0], ["prepare", USER, {
    plan: "pro",
    pack: null,
    accountId: null,
  }]);
  equal(answer.payment_link, SIGNED_NEW);
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

Deno.test("a link whose plan changed while it was made is not handed out", async () => {
  const { status, answer } = await ask({ note: () => Promise.resolve(null) });
  deepEqual([status, answer.error.code], [409, "superseded"]);
});

Deno.test("when Stripe is away the answer says when to come again, and a key that it burnt is given up", async () => {
  const cases: [Error, string[]][] = [
    [stripeError("StripeConnectionError", 0), []],
    [stripeError("StripeRateLimitError", 429), []],
    [stripeError("StripeAPIError", 500), ["discard"]],
    [stripeError("StripeIdempotencyError", 400), ["discard"]],
  ];
  for (const [error, then] of cases) {
    const { status, response, names } = await ask({ create: fails(error) });
    equal(status, 503);
    match(response.headers.get("retry-after")!, /^\d+$/);
    deepEqual(names, ["prepare", "create", ...then]);
  }
  const links = [{ ...MADE, check: true }];
  const away = fails(stripeError("StripeAPIError", 500));
  deepEqual((await ask({ links, retrieve: away })).status, 503);
  const refused = fails(stripeError("StripeInvalidRequestError", 400));
  deepEqual((await ask({ create: refused })).status, 502);
});
