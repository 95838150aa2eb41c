/** Supabase's environment → the webhook receiver, at /functions/v1/stripe-webhook. */

// No `@supabase/server` here: with `auth: "none"` it would only add CORS, which a webhook must not have,
// and a client over HTTP, where one SQL statement is shorter and has committed before we answer.
import { Database } from "../_tillbase/database.ts";
import { handler } from "./handler.ts";
import { receiver } from "./receive.ts";
import { signingSecrets, verifyWithStripe } from "./signature.ts";

const dependencies = {
  secrets: [
    ...signingSecrets(Deno.env.get("STRIPE_WEBHOOK_SECRET")),
    ...signingSecrets(Deno.env.get("STRIPE_WEBHOOK_SECRET_NEXT")),
  ],
  verify: verifyWithStripe,
  now: Date.now,
  receive: receiver(new Database("billing_receiver")),
};

export default { fetch: (request: Request) => handler(request, dependencies) };
