/** What a user wants to buy → one call of billing.prepare_checkout → the first step. */

import type { Database } from "../_tillbase/database.ts";
import { judged } from "../_tillbase/refusals.ts";
import type { Step } from "../_tillbase/steps.ts";

/** What the client may ask for. There is no amount in it. */
export interface Order {
  /** Lookup key or price id of a plan. Either this or `pack`. */
  plan: string | null;
  /** Lookup key or price id of a credit pack. Either this or `plan`. */
  pack: string | null;
  /** Seats or packs. Default: the plan's minimum, one pack. */
  quantity: number | null;
  /** Where to return after the payment, on one of your origins. Default: `settings.site_url`. `session_id` is added to it. */
  successUrl: string | null;
  /** Where to return without a payment. Default: `settings.site_url`. */
  cancelUrl: string | null;
  /** With a pack: saves the card, for auto-recharge. */
  saveCard: boolean;
  /** A team account that the user owns or administers. Default: the user's own account. */
  accountId: string | null;
}

export interface Session {
  id: string;
  url: string;
}

export type Prepare = (userId: string, order: Order) => Promise<Step<Session>>;

export function preparer(database: Database): Prepare {
  return async (userId, order) => {
    const quantity = order.quantity === null ? null : String(order.quantity);
    const [row] = await judged(
      database.run((sql) =>
        sql<[{ step: Step<Session> }]>`select billing.prepare_checkout(
        user_id => ${userId}, plan => ${order.plan}, pack => ${order.pack}, quantity => ${quantity},
        success_url => ${order.successUrl}, cancel_url => ${order.cancelUrl}, save_card => ${order.saveCard},
        account_id => ${order.accountId}) as step`
      ),
    );
    return row.step;
  };
}
