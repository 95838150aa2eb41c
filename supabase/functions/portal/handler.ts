/** A signed-in user's POST → a session of their customer portal, at its own page or deep inside it. */

import type Stripe from "stripe";
import { answerPost } from "../_tillbase/browser.ts";
import { readFields } from "../_tillbase/fields.ts";
import { refuse } from "../_tillbase/respond.ts";
import { answered } from "../_tillbase/stripe.ts";
import type { Identify } from "../_tillbase/user.ts";
import type { Prepare } from "./prepare.ts";

export interface Dependencies {
  identify: Identify;
  prepare: Prepare;
  stripe: (livemode: boolean) => Stripe;
}

export function handler(
  request: Request,
  { identify, prepare, stripe }: Dependencies,
): Promise<Response> {
  return answerPost(
    request,
    async () => {
      const userId = await identify(request);
      const fields = await readFields(request);
      const { livemode, params } = await prepare(userId, {
        returnUrl: fields.text("return_url"),
        flow: fields.text("flow"),
        accountId: fields.uuid("account_id"),
      });
      const sessions = stripe(livemode).billingPortal.sessions;
      const { url } = await answered(sessions.create(params));
      return Response.json({ url });
    },
    (error) => refuse("portal", error),
  );
}
