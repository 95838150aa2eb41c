/** What the database says of a checkout, and what it is told: one statement each. */

import type Stripe from "stripe";
import type { Database } from "../_tillbase/database.ts";
import { judged } from "../_tillbase/refusals.ts";

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

/** The account's right to a customer that is still to be made. */
export interface Claim {
  account_id: string;
  token: string;
  idempotency_key: string;
  params: Stripe.CustomerCreateParams;
  /** Where to look for the customer first; null when it cannot be there. */
  lookup: Stripe.CustomerListParams | null;
}

/** What to send to Stripe. */
export interface Checkout {
  livemode: boolean;
  customer: { id: string } | Claim;
  session: {
    params: Stripe.Checkout.SessionCreateParams;
    idempotency_key: string;
  };
  /** Open sessions of the account that must be expired first: both could be paid. */
  superseded: string[];
}

export interface Books {
  prepare(userId: string, order: Order): Promise<Checkout>;
  /** → the customer that the account has now. */
  link(claim: Claim, customerId: string): Promise<string>;
  /** → whether the session stands: not when another plan was asked for meanwhile. */
  record(
    idempotencyKey: string,
    sessionId: string,
    expired: string[],
  ): Promise<boolean>;
  discard(idempotencyKey: string): Promise<void>;
}

export function booksOf(database: Database): Books {
  return {
    async prepare(userId, order) {
      const quantity = order.quantity === null ? null : String(order.quantity);
      const [row] = await judged(
        database.run((sql) =>
          sql<[{ checkout: Checkout }]>`select billing.prepare_checkout(
          user_id => ${userId}, plan => ${order.plan}, pack => ${order.pack}, quantity => ${quantity},
          success_url => ${order.successUrl}, cancel_url => ${order.cancelUrl}, save_card => ${order.saveCard},
          account_id => ${order.accountId}) as checkout`
        ),
      );
      return row.checkout;
    },
    async link(claim, customerId) {
      const [row] = await database.run((sql) =>
        sql<[{ id: string }]>`select billing.link_checkout_customer(
          account_id => ${claim.account_id}, claim_token => ${claim.token}, stripe_customer_id => ${customerId}) as id`
      );
      return row.id;
    },
    async record(idempotencyKey, sessionId, expired) {
      const [row] = await database.run((sql) =>
        sql<[{ stands: boolean }]>`select billing.note_checkout_session(
          idempotency_key => ${idempotencyKey}, stripe_checkout_session_id => ${sessionId},
          expired => string_to_array(${expired.join()}, ',')) as stands`
      );
      return row.stands;
    },
    async discard(idempotencyKey) {
      await database.run((sql) =>
        sql`select billing.discard_checkout_key(idempotency_key => ${idempotencyKey})`
      );
    },
  };
}
