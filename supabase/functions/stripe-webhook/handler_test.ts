import { deepEqual, equal, match, ok } from "node:assert/strict";
import Stripe from "stripe";
import { DatabaseUnavailable } from "../_tillbase/database.ts";
import { handler } from "./handler.ts";
import type { StripeEvent } from "./receive.ts";
import { signingSecrets, verifyWithStripe } from "./signature.ts";

const SECRET = "whsec_test_of_today";
const NOW_SECONDS = 1_790_000_000;
const MEBIBYTE = 1024 * 1024;
const EVENT = {
  id: "evt_1QZvXm2eZvKYlo2C",
  object: "event",
  type: "invoice.paid",
  api_version: "2026-10-28.endive",
  created: NOW_SECONDS - 4,
  livemode: false,
  data: { object: { id: "in_1", customer_email: "jenny@example.com" } },
};
const BODY = JSON.stringify(EVENT, null, 2);

interface Delivery {
  method?: string;
  body?: BodyInit;
  header?: string | null;
  headers?: Record<string, string>;
  secrets?: string;
  receive?: (event: StripeEvent) => Promise<string>;
}

/** Delivers, and returns the answer together with what would have reached the database and the log. */
async function deliver(delivery: Delivery = {}) {
  const { method = "POST", body = BODY, secrets = SECRET } = delivery;
  const header = delivery.header === undefined
    ? await sign(body as string)
    : delivery.header;
  const headers = new Headers(delivery.headers);
  if (header !== null) headers.set("stripe-signature", header);
  const hasBody = method !== "GET" && method !== "HEAD";
  const request = new Request("http://localhost/stripe-webhook", {
    method,
    headers,
    body: hasBody ? body : undefined,
  });
  const received: StripeEvent[] = [];
  const receive = delivery.receive ??
    ((event) => Promise.resolve(`queued ${received.push(event)}`));
  const { logged, response } = await withLog(() =>
    handler(request, {
      secrets: signingSecrets(secrets),
      verify: verifyWithStripe,
      now: () => NOW_SECONDS * 1000 + 999,
      receive,
    })
  );
  const text = await response.text();
  const answer = text === "" ? {} : JSON.parse(text);
  return { status: response.status, response, answer, received, logged };
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

function sign(payload: string, options: Record<string, unknown> = {}) {
  return Stripe.webhooks.generateTestHeaderStringAsync({
    payload,
    secret: SECRET,
    timestamp: NOW_SECONDS,
    ...options,
  });
}

async function assertRefused(
  delivery: Delivery,
  status: number,
  code: string,
) {
  const { received, logged, ...outcome } = await deliver(delivery);
  deepEqual([outcome.status, outcome.answer.error?.code], [status, code]);
  equal(typeof outcome.answer.error.message, "string");
  deepEqual([received, logged], [[], []]);
  return outcome.response;
}

Deno.test("a signed event is handed over with its envelope and its body as it came", async () => {
  const { status, answer, received, logged } = await deliver();
  deepEqual([status, answer], [200, { received: "queued 1" }]);
  deepEqual(received, [{
    id: EVENT.id,
    type: EVENT.type,
    apiVersion: EVENT.api_version,
    created: EVENT.created,
    livemode: false,
    payload: BODY,
  }]);
  deepEqual(logged, []);
});

Deno.test("escapes that Postgres cannot cast survive untouched", async () => {
  const body = BODY.replace("in_1", "\\u0000 \\ud800 \u00fc \\u00FC 😀");
  const { status, received } = await deliver({ body });
  equal(status, 200);
  equal(received[0].payload, body);
});

Deno.test("an event of an account without an API version has none", async () => {
  for (const body of [null, undefined]) {
    const { status, received } = await deliver({
      body: JSON.stringify({ ...EVENT, api_version: body }),
    });
    deepEqual([status, received[0].apiVersion], [200, null]);
  }
});

Deno.test("the answer waits for the database", async () => {
  const { promise, resolve } = Promise.withResolvers<string>();
  const answer = deliver({ receive: () => promise });
  const first = await Promise.race([answer, sign(BODY).then(() => "waiting")]);
  equal(first, "waiting");
  resolve("duplicate");
  deepEqual((await answer).answer, { received: "duplicate" });
});

Deno.test("every method but POST is refused, and browsers are offered nothing", async () => {
  for (const method of ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"]) {
    const { status, response, received } = await deliver({ method });
    deepEqual([status, received], [405, []]);
    equal(response.headers.get("allow"), "POST");
    equal(response.headers.get("access-control-allow-origin"), null);
  }
});

Deno.test("signatures that no secret of ours made are refused", async () => {
  const header = await sign(BODY);
  const other = await sign(BODY, { secret: "whsec_of_somebody_else" });
  const forged = {
    missing: null,
    empty: "",
    "another secret": other,
    "v0 only": header.replace("v1=", "v0="),
    "no signature": header.replace(/,.*/, ""),
    "upper case": header.replace(/v1=.*/, (v1) => v1.toUpperCase()),
    truncated: header.slice(0, -1),
    garbage: "t=now,v1=x",
  };
  for (const header of Object.values(forged)) {
    await assertRefused({ header }, 400, "invalid_signature");
  }
});

Deno.test("bodies other than the signed one are refused", async () => {
  const header = await sign(BODY);
  const altered = {
    tampered: BODY.replace("in_1", "in_2"),
    reformatted: JSON.stringify(JSON.parse(BODY)),
    "line ends": BODY.replaceAll("\n", "\r\n"),
    "byte order mark": `\ufeff${BODY}`,
    empty: "",
  };
  for (const body of Object.values(altered)) {
    await assertRefused({ body, header }, 400, "invalid_signature");
  }
});

Deno.test("a timestamp is accepted within 300 seconds, and not beyond, in both directions", async () => {
  for (const age of [-300, 0, 300]) {
    const header = await sign(BODY, { timestamp: NOW_SECONDS - age });
    equal((await deliver({ header })).status, 200, `${age} s old`);
  }
  for (const age of [-1e9, -301, 301, 1e9]) {
    const header = await sign(BODY, { timestamp: NOW_SECONDS - age });
    await assertRefused({ header }, 400, "timestamp_out_of_tolerance");
  }
});

Deno.test("a header without exactly one plain timestamp is refused, however well it is signed", async () => {
  const header = await sign(BODY);
  const signature = header.slice(header.indexOf(",") + 1);
  const ofNaN = await sign(BODY, {
    signature: await hmac(`NaN.${BODY}`),
  });
  const headers = [
    signature,
    `t=1,${header}`,
    `${header},t=${NOW_SECONDS}`,
    `t=${NOW_SECONDS}.0,${signature}`,
    `t=+${NOW_SECONDS},${signature}`,
    `t=,${ofNaN.replace(/^t=\d+,/, "")}`,
    ofNaN.replace(/^t=\d+/, "t=NaN"),
  ];
  for (const header of headers) {
    await assertRefused({ header }, 400, "invalid_signature");
  }
});

Deno.test("while a secret is rotated either one is good, afterwards only the new one", async () => {
  const old = await sign(BODY, { secret: "whsec_old" });
  const both = `${old},${(await sign(BODY)).replace(/^t=\d+,/, "")}`;
  for (
    const secrets of [`whsec_old,${SECRET}`, `\n${SECRET} \t whsec_old\r\n`]
  ) {
    for (const header of [old, both, await sign(BODY)]) {
      equal((await deliver({ header, secrets })).status, 200);
    }
  }
  equal((await deliver({ header: both })).status, 200);
  await assertRefused({ header: old }, 400, "invalid_signature");
});

Deno.test("without a signing secret nothing is accepted, and the answer says what to set", async () => {
  for (const secrets of ["", " ", ",\n,"]) {
    const header = await sign(BODY, { secret: " " });
    const { status, answer, received, logged } = await deliver({
      secrets,
      header,
    });
    deepEqual([status, received], [503, []]);
    match(answer.error.message, /STRIPE_WEBHOOK_SECRET/);
    equal(logged.length, 1);
  }
});

Deno.test("signed bodies that are not JSON are refused", async () => {
  for (const body of ["not json", "{", `${BODY}x`, `\ufeff${BODY}`, "\0"]) {
    await assertRefused({ body }, 400, "invalid_event");
  }
});

Deno.test("bytes that are not UTF-8 are refused, never repaired", async () => {
  const bytes = new Uint8Array([0x7b, 0xff, 0xed, 0xa0, 0x80, 0x7d]);
  const header = await sign(new TextDecoder().decode(bytes));
  await assertRefused({ body: bytes, header }, 400, "body_not_utf8");
});

Deno.test("signed JSON that is not a Stripe event is refused", async () => {
  const values = [null, true, 1, "evt_1", [], [EVENT], {}, { event: EVENT }];
  const changes = [
    { id: undefined },
    { id: 1 },
    { id: "" },
    { id: "evt_\u0000" },
    { id: "evt_\ud800" },
    { id: "evt 1" },
    { id: "e".repeat(256) },
    { type: null },
    { type: ["invoice.paid"] },
    { type: "invoice.paid\n" },
    { api_version: 20261028 },
    { api_version: "" },
    { created: "1790000000" },
    { created: 1.5 },
    { created: -1 },
    { created: 1e15 },
    { created: undefined },
    { livemode: "false" },
    { livemode: undefined },
    { object: "v2.core.event" },
  ];
  const events = changes.map((change) => ({ ...EVENT, ...change }));
  for (const value of [...values, ...events]) {
    const body = JSON.stringify(value);
    await assertRefused({ body }, 400, "invalid_event");
  }
});

Deno.test("a body of 1 MiB is taken, one byte more is not", async () => {
  const padded = (size: number) => BODY + " ".repeat(size - BODY.length);
  equal((await deliver({ body: padded(MEBIBYTE) })).status, 200);
  const body = padded(MEBIBYTE + 1);
  await assertRefused({ body }, 413, "body_too_large");
  const headers = { "content-length": `${body.length}` };
  await assertRefused({ body, headers }, 413, "body_too_large");
});

Deno.test("a body that is too large is not read to its end", async () => {
  const endless = () => {
    let sent = 0;
    const chunk = new Uint8Array(64 * 1024);
    const body = new ReadableStream({
      pull: (controller) => {
        sent += chunk.byteLength;
        controller.enqueue(chunk);
      },
    });
    return { body, sent: () => sent };
  };
  const header = await sign(BODY);
  const counted = endless();
  await assertRefused({ body: counted.body, header }, 413, "body_too_large");
  ok(counted.sent() < 2 * MEBIBYTE);

  const declared = endless();
  const headers = { "content-length": "10000000" };
  await assertRefused(
    { body: declared.body, header, headers },
    413,
    "body_too_large",
  );
  ok(declared.sent() < MEBIBYTE);
});

Deno.test("a client that disconnects within a body is not our failure", async () => {
  const header = await sign(BODY);
  const declared: Record<string, string> = { "content-length": "10000" };
  for (const headers of [{}, declared]) {
    const body = new ReadableStream({
      pull: (controller) => controller.error(new Error("the other side left")),
    });
    await assertRefused({ body, header, headers }, 400, "body_incomplete");
  }
});

Deno.test("a database that is away makes Stripe send again, and one line of the log says why", async () => {
  const cause = Object.assign(new Error("connect refused"), {
    code: "ECONNREFUSED",
  });
  const { status, answer, response, logged } = await deliver({
    receive: () => Promise.reject(new DatabaseUnavailable(cause)),
  });
  deepEqual([status, answer.error.code], [503, "database_unavailable"]);
  match(response.headers.get("retry-after")!, /^\d+$/);
  deepEqual(JSON.parse(logged.join()), {
    level: "error",
    function: "stripe-webhook",
    status: 503,
    code: "database_unavailable",
    reason: "Error ECONNREFUSED connect refused",
  });
});

Deno.test("a failure of ours is a 500 that tells the caller nothing and the log no data", async () => {
  const failures = [
    { code: "42501", message: "permission denied for function" },
    { code: "22P02", message: `invalid input: "${BODY}"` },
    { code: "23505", message: `duplicate key ${EVENT.id}` },
  ];
  for (const failure of failures) {
    const { status, answer, logged } = await deliver({
      receive: () => Promise.reject(Object.assign(new Error(), failure)),
    });
    deepEqual([status, answer.error.code], [500, "internal_error"]);
    equal(logged.length, 1);
    match(logged[0], new RegExp(failure.code));
    const told = `${JSON.stringify(answer)} ${logged[0]}`;
    for (const private_ of [SECRET, EVENT.id, "jenny@example.com", "v1="]) {
      ok(!told.includes(private_), `${private_} in ${told}`);
    }
  }
});

async function hmac(content: string): Promise<string> {
  const key = await crypto.subtle.importKey(
    "raw",
    new TextEncoder().encode(SECRET),
    { name: "HMAC", hash: "SHA-256" },
    false,
    ["sign"],
  );
  const bytes = new TextEncoder().encode(content);
  const signature = await crypto.subtle.sign("HMAC", key, bytes);
  return Array.from(
    new Uint8Array(signature),
    (byte) => byte.toString(16).padStart(2, "0"),
  ).join("");
}
