/** What any receiver must do: let Stripe's SDK check the signature, write the rows that the product writes, answer. */

// deno run … floor_receive.ts POSTGRES_URL WEBHOOK_SECRET CONNECTIONS

import { createHmac } from "node:crypto";
import postgres from "npm:postgres@3.4.9";
import Stripe from "npm:stripe@23.1.0";

const [url, secret, connections] = Deno.args;
const sql = postgres(url, {
  max: Number(connections),
  fetch_types: false,
  onnotice: () => {},
});

// The same HMAC as the product's: WebCrypto's way over another thread would make the floor lower than need be.
class InlineCrypto extends Stripe.CryptoProvider {
  override computeHMACSignatureAsync(payload: string, key: string) {
    return Promise.resolve(
      createHmac("sha256", key).update(payload).digest("hex"),
    );
  }
}
const crypto = new InlineCrypto();

Deno.serve(
  {
    hostname: "127.0.0.1",
    port: 0,
    onListen: ({ port }) => console.log(port),
  },
  async (request) => {
    const body = await request.text();
    const signature = request.headers.get("stripe-signature") ?? "";
    const event = await Stripe.webhooks.constructEventAsync(
      body,
      signature,
      secret,
      undefined,
      crypto,
    );
    await sql`
      with event as (
        insert into billing.stripe_events (stripe_event_id, type, api_version, livemode, payload, created_at)
        values (${event.id}, ${event.type}, ${event.api_version}, ${event.livemode}, ${body}, to_timestamp(${event.created}))
        returning stripe_event_id
      )
      insert into pgmq.q_stripe_events (vt, message)
      select clock_timestamp(), jsonb_build_object('event_id', stripe_event_id) from event`;
    return Response.json({ received: true });
  },
);
for await (const _ of Deno.stdin.readable);
Deno.exit(0);
