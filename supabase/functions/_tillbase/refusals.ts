/** SQLSTATEs of ours → what the caller of an edge function is told. Whatever else Postgres says is a failure of ours. */

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
};
const RETRY_AFTER_SECONDS = "60";

/** Runs a statement; what it refuses by a code of ours is an HttpError. */
export async function judged<Result>(
  statement: Promise<Result>,
): Promise<Result> {
  try {
    return await statement;
  } catch (error) {
    const { code = "", message } = error as { code?: string; message: string };
    const refusal = Object.hasOwn(REFUSALS, code) ? REFUSALS[code] : undefined;
    if (!refusal) throw error;
    const [status, name, told = sentence(message)] = refusal;
    const headers = status === 429
      ? { "retry-after": RETRY_AFTER_SECONDS }
      : undefined;
    throw new HttpError(status, name, told, { headers });
  }
}

function sentence(message: string): string {
  return `${message.charAt(0).toUpperCase()}${message.slice(1)}.`;
}
