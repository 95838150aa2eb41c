/** Supabase's environment → the function of payment links, at /functions/v1/payment-links. */

import { Database } from "../_tillbase/database.ts";
import { stripeClient } from "../_tillbase/stripe.ts";
import { identifier } from "../_tillbase/user.ts";
import { booksOf } from "./books.ts";
import { handler } from "./handler.ts";

const dependencies = {
  identify: identifier((name) => Deno.env.get(name)),
  books: booksOf(new Database("billing_checkout")),
  stripe: stripeClient({
    apiKey: Deno.env.get("STRIPE_API_KEY") ?? "",
    apiBase: Deno.env.get("STRIPE_API_BASE"),
  }),
};

export default { fetch: (request: Request) => handler(request, dependencies) };
