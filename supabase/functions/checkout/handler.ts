/** A signed-in user's POST → an open Checkout Session. What is refused creates nothing in Stripe. */

import type Stripe from "stripe";
import { answerPost } from "../_tillbase/browser.ts";
import { readFields } from "../_tillbase/fields.ts";
import { refuse } from "../_tillbase/respond.ts";
import type { Identify } from "../_tillbase/user.ts";
import type { Books, Order } from "./books.ts";
import { openSession } from "./open.ts";

export interface Dependencies {
  identify: Identify;
  books: Books;
  stripe: (livemode: boolean) => Stripe;
}

export function handler(
  request: Request,
  { identify, books, stripe }: Dependencies,
): Promise<Response> {
  return answerPost(
    request,
    async () => {
      const userId = await identify(request);
      const checkout = await books.prepare(userId, await readOrder(request));
      const session = await openSession(
        checkout,
        stripe(checkout.livemode),
        books,
      );
      return Response.json({ id: session.id, url: session.url });
    },
    (error) => refuse("checkout", error),
  );
}

/** Only the fields that are named here are looked at. */
async function readOrder(request: Request): Promise<Order> {
  const fields = await readFields(request);
  return {
    plan: fields.text("plan"),
    pack: fields.text("pack"),
    quantity: fields.number("quantity"),
    successUrl: fields.text("success_url"),
    cancelUrl: fields.text("cancel_url"),
    saveCard: fields.boolean("save_card") ?? false,
    accountId: fields.uuid("account_id"),
  };
}
