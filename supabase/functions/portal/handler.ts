/** A signed-in user's POST → a session of their customer portal, at its own page or deep inside it. */

import { answerPost } from "../_tillbase/browser.ts";
import { readFields } from "../_tillbase/fields.ts";
import { refuse } from "../_tillbase/respond.ts";
import type { CarryOut } from "../_tillbase/steps.ts";
import type { Identify } from "../_tillbase/user.ts";
import type { Prepare, Session } from "./prepare.ts";

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
      const fields = await readFields(request);
      const step = await prepare(userId, {
        returnUrl: fields.text("return_url"),
        flow: fields.text("flow"),
        accountId: fields.uuid("account_id"),
      });
      const { url } = await carryOut(step);
      return Response.json({ url });
    },
    (error) => refuse("portal", error),
  );
}
