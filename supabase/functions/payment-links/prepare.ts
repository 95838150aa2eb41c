/** What a user asks for → one call of billing.prepare_payment_links → the first step of each link. */

import type { Database } from "../_tillbase/database.ts";
import { judged } from "../_tillbase/refusals.ts";
import type { Step } from "../_tillbase/steps.ts";

/** Without plan and pack: the links of all plans. */
export interface Wish {
  /** Lookup key or price id of a plan: the answer is its link alone. */
  plan: string | null;
  /** The same for a credit pack. */
  pack: string | null;
  /** A team account that the user owns or administers. Default: the user's own account. */
  accountId: string | null;
}

export interface Link {
  url: string;
}

export interface Prepared {
  links: { name: string; step: Step<Link> }[];
  /** Signed: names the account that a payment is for. */
  reference: string;
}

export type Prepare = (userId: string, wish: Wish) => Promise<Prepared>;

export function preparer(database: Database): Prepare {
  return async (userId, { plan, pack, accountId }) => {
    const [row] = await judged(
      database.run((sql) =>
        sql<[{ prepared: Prepared }]>`select billing.prepare_payment_links(
        user_id => ${userId}, plan => ${plan}, pack => ${pack}, account_id => ${accountId}) as prepared`
      ),
    );
    return row.prepared;
  };
}
