/** Supabase's environment → the customer portal function, at /functions/v1/portal. */

import { Database } from "../_tillbase/database.ts";
import { carrier, continuer } from "../_tillbase/steps.ts";
import { stripeClient } from "../_tillbase/stripe.ts";
import { identifier } from "../_tillbase/user.ts";
import { handler } from "./handler.ts";
import { preparer, type Session } from "./prepare.ts";

const database = new Database("billing_checkout");
const dependencies = {
  identify: identifier((name) => Deno.env.get(name)),
  prepare: preparer(database),
  carryOut: carrier(
    continuer<Session>(database, "continue_portal"),
    stripeClient({
      apiKey: Deno.env.get("STRIPE_API_KEY") ?? "",
      apiBase: Deno.env.get("STRIPE_API_BASE"),
    }),
  ),
};

export default { fetch: (request: Request) => handler(request, dependencies) };
