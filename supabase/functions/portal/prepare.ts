/** What a user wants to change → one call of billing.prepare_portal → what to send to Stripe. */

import type Stripe from "stripe";
import type { Database } from "../_tillbase/database.ts";
import { judged } from "../_tillbase/refusals.ts";

export interface Wish {
  returnUrl: string | null;
  flow: string | null;
  accountId: string | null;
}

export interface Portal {
  livemode: boolean;
  params: Stripe.BillingPortal.SessionCreateParams;
}

export type Prepare = (userId: string, wish: Wish) => Promise<Portal>;

export function preparer(database: Database): Prepare {
  return async (userId, { returnUrl, flow, accountId }) => {
    const [row] = await judged(
      database.run((sql) =>
        sql<[{ portal: Portal }]>`select billing.prepare_portal(
        user_id => ${userId}, return_url => ${returnUrl}, flow => ${flow}, account_id => ${accountId}) as portal`
      ),
    );
    return row.portal;
  };
}
