/** Our SQLSTATEs → the answers of the edge functions. Any other error of Postgres is a failure of ours. */

import { HttpError } from "./respond.ts";

/** Status, code, and a message where the database's own is not for users (it says why an account is frozen). */
const REFUSALS: Record<string, [number, string, string?]> = {
  TB003: [403, "account_frozen", "This account is frozen."],
  TB008: [403, "account_closed", "This account is closed."],
  TB040: [401, "unauthorized"],
  TB041: [403, "account_forbidden"],
  TB042: [404, "price_unknown"],
  TB043: [422, "quantity_out_of_range"],
  TB044: [422, "url_not_allowed"],
  TB045: [409, "already_subscribed"],
  TB046: [409, "no_customer"],
  TB047: [409, "no_subscription"],
  TB048: [400, "invalid_request"],
  TB049: [429, "too_many_requests"],
  TB062: [
    503,
    "stripe_unavailable",
    "Stripe is unavailable. Nothing was bought; try again.",
  ],
  TB063: [
    502,
    "stripe_refused",
    "Stripe refused the request; the function's log says why.",
  ],
  TB064: [409, "superseded"],
};
const RETRY_AFTER_SECONDS: Record<number, string> = { 429: "60", 503: "5" };

/** Runs a statement; an error with a code of ours becomes an HttpError. */
export async function judged<Result>(
  statement: Promise<Result>,
): Promise<Result> {
  try {
    return await statement;
  } catch (error) {
    const { code = "", message } = error as { code?: string; message: string };
    throw Object.hasOwn(REFUSALS, code) ? refusal({ code, message }) : error;
  }
}

/** A refusal of the database → the answer to the caller. The log has the database's own message. */
export function refusal(
  { code, message }: { code: string; message: string },
): HttpError {
  const [status, name, told = sentence(message)] = REFUSALS[code];
  const retryAfter = RETRY_AFTER_SECONDS[status];
  const headers = retryAfter ? { "retry-after": retryAfter } : undefined;
  return new HttpError(status, name, told, {
    headers,
    cause: { code, message },
  });
}

function sentence(message: string): string {
  return `${message.charAt(0).toUpperCase()}${message.slice(1)}.`;
}
