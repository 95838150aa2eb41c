/** What the database says of payment links, and what it is told: one statement each. */

import type Stripe from "stripe";
import type { Database } from "../_tillbase/database.ts";
import { judged } from "../_tillbase/refusals.ts";

/** Without plan and pack: the links of all plans. */
export interface Wish {
  /** Lookup key or price id of a plan: the answer is its link alone. */
  plan: string | null;
  /** The same for a credit pack. */
  pack: string | null;
  /** A team account that the user owns or administers. Default: the user's own account. */
  accountId: string | null;
}

/** A link that was made. */
export interface Made {
  name: string;
  id: string;
  url: string;
  /** Whether Stripe is to be asked if it still stands. */
  check: boolean;
}

/** The row's right to a link that is still to be made. */
export interface Claim {
  name: string;
  token: string;
  idempotency_key: string;
  params: Stripe.PaymentLinkCreateParams;
  /** Where to look for the link first; null when it cannot be there. */
  lookup: Stripe.PaymentLinkListParams | null;
}

export type Link = Made | Claim;

export interface Prepared {
  livemode: boolean;
  links: Link[];
  /** Signed: names the account that a payment is for. */
  reference: string;
}

export interface Books {
  prepare(userId: string, wish: Wish): Promise<Prepared>;
  /** → the URL to hand out; null when the plan changed in the meantime. */
  note(token: string, linkId: string, url: string): Promise<string | null>;
  confirm(linkId: string): Promise<void>;
  /** The link is gone in Stripe → the one that takes its place. */
  replace(linkId: string, name: string): Promise<Link>;
  discard(idempotencyKey: string): Promise<void>;
}

export function booksOf(database: Database): Books {
  return {
    async prepare(userId, { plan, pack, accountId }) {
      const [row] = await judged(
        database.run((sql) =>
          sql<[{ prepared: Prepared }]>`select billing.prepare_payment_links(
          user_id => ${userId}, plan => ${plan}, pack => ${pack}, account_id => ${accountId}) as prepared`
        ),
      );
      return row.prepared;
    },
    async note(token, linkId, url) {
      const [row] = await database.run((sql) =>
        sql<[{ url: string | null }]>`select billing.note_payment_link(
          token => ${token}, stripe_payment_link_id => ${linkId}, url => ${url}) as url`
      );
      return row.url;
    },
    async confirm(linkId) {
      await database.run((sql) =>
        sql`select billing.confirm_payment_link(stripe_payment_link_id => ${linkId})`
      );
    },
    async replace(linkId, name) {
      const [row] = await judged(
        database.run((sql) =>
          sql<[{ link: Link }]>`select billing.replace_payment_link(
          stripe_payment_link_id => ${linkId}, name => ${name}) as link`
        ),
      );
      return row.link;
    },
    async discard(idempotencyKey) {
      await database.run((sql) =>
        sql`select billing.discard_payment_link_key(idempotency_key => ${idempotencyKey})`
      );
    },
  };
}
