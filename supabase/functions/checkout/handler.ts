/** A signed-in user's POST → an open Checkout Session. What is refused creates nothing in Stripe. */

import { answerPost } from "../_tillbase/browser.ts";
import { readFields } from "../_tillbase/fields.ts";
import { refuse } from "../_tillbase/respond.ts";
import type { CarryOut } from "../_tillbase/steps.ts";
import type { Identify } from "../_tillbase/user.ts";
import type { Order, Prepare, Session } from "./prepare.ts";

export interface Dependencies {
  identify: Identify;
  prepare: Prepare;
  carryOut: CarryOut<Session>;
}

export function handler(
  request: Request,
  { identify, prepare, carryOut }: Dependencies,
): Promise<Response> {
  return answerPost(
    request,
    async () => {
      const userId = await identify(request);
      const step = await prepare(userId, await readOrder(request));
      const { id, url } = await carryOut(step);
      return Response.json({ id, url });
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
