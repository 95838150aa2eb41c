/** What a user wants to change → one call of billing.prepare_portal → the first step. */

import type { Database } from "../_tillbase/database.ts";
import { judged } from "../_tillbase/refusals.ts";
import type { Step } from "../_tillbase/steps.ts";

export interface Wish {
  /** Where to return from the portal, on one of your origins. Default: `settings.site_url`. */
  returnUrl: string | null;
  /** `cancel`, `update_plan` or `update_card`: opens that page. Default: the portal's first page. */
  flow: string | null;
  /** A team account that the user owns or administers. Default: the user's own account. */
  accountId: string | null;
}

export interface Session {
  url: string;
}

export type Prepare = (userId: string, wish: Wish) => Promise<Step<Session>>;

export function preparer(database: Database): Prepare {
  return async (userId, { returnUrl, flow, accountId }) => {
    const [row] = await judged(
      database.run((sql) =>
        sql<[{ step: Step<Session> }]>`select billing.prepare_portal(
        user_id => ${userId}, return_url => ${returnUrl}, flow => ${flow}, account_id => ${accountId}) as step`
      ),
    );
    return row.step;
  };
}
