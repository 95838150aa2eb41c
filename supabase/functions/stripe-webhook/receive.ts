/** A signed JSON value → the event's envelope → one call of billing.receive_stripe_event. */

import type { Database } from "../_tillbase/database.ts";
import { HttpError } from "../_tillbase/respond.ts";

/** What the inbox keys on (docs.stripe.com/api/events/object), and the body as it came. */
export interface StripeEvent {
  id: string;
  type: string;
  apiVersion: string | null;
  /** Unix seconds. */
  created: number;
  livemode: boolean;
  /** The raw text: `\u0000` and lone surrogates are legal in it, and would not survive a jsonb column. */
  payload: string;
}

export type Receive = (event: StripeEvent) => Promise<string>;

/** Ids, types and versions are printable ASCII: what else comes could not be stored, or not be read. */
const NAME = /^[\x21-\x7e]{1,255}$/;
const LAST_SECOND_OF_9999 = 253_402_300_799;

/** Errors: 400 when the value lacks what every Stripe event has. */
export function parseEvent(value: unknown, payload: string): StripeEvent {
  const { id, type, api_version: apiVersion = null, created, livemode } =
    (value ?? {}) as Record<string, unknown>;
  if (
    isName(id) && isName(type) && (apiVersion === null || isName(apiVersion)) &&
    isTime(created) && typeof livemode === "boolean"
  ) {
    return { id, type, apiVersion, created, livemode, payload };
  }
  throw new HttpError(
    400,
    "invalid_event",
    "Not a Stripe event: id, type, created, livemode or api_version is missing or of another type.",
  );
}

/** → 'queued', 'duplicate' or 'ignored', once it is committed. */
export function receiver(database: Database): Receive {
  return async ({ id, type, apiVersion, created, livemode, payload }) => {
    const [row] = await database.run((sql) =>
      sql<[{ outcome: string }]>`select billing.receive_stripe_event(
        event_id => ${id}, type => ${type}, api_version => ${apiVersion}, created => ${created},
        livemode => ${livemode}, payload => ${payload}) as outcome`
    );
    return row.outcome;
  };
}

function isName(value: unknown): value is string {
  return typeof value === "string" && NAME.test(value);
}

function isTime(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0 &&
    (value as number) <= LAST_SECOND_OF_9999;
}
