/** STRIPE_API_KEY → calls of Stripe that answer or fail within seconds, and failures that say what to do. */

import Stripe from "stripe";
import { HttpError } from "./respond.ts";

// A user is waiting: at most two tries of four seconds and half a second between them.
const TIMEOUT_MS = 4_000;
const RETRIES = 1;
const RETRY_AFTER_SECONDS = "5";

export interface StripeSettings {
  apiKey: string;
  /** Another Stripe than Stripe's own: the local stack's. */
  apiBase?: string;
}

/** Stripe, for an installation of this mode: the key's must be the same, or money and books would part.
 * Errors: 503 without a key, or with one of the other mode. */
export function stripeClient(
  settings: StripeSettings,
): (livemode: boolean) => Stripe {
  let client: Stripe | undefined;
  return (livemode) => {
    const isLive = /^(sk|rk)_live_/.test(settings.apiKey);
    if (!settings.apiKey || isLive !== livemode) {
      throw new HttpError(
        503,
        "stripe_key_unusable",
        settings.apiKey
          ? `STRIPE_API_KEY is not a key of the installation's mode (livemode is ${livemode}).`
          : "STRIPE_API_KEY is not set.",
      );
    }
    return client ??= new Stripe(settings.apiKey, {
      ...address(settings.apiBase),
      httpClient: Stripe.createFetchHttpClient(),
      timeout: TIMEOUT_MS,
      maxNetworkRetries: RETRIES,
      telemetry: false,
      appInfo: { name: "tillbase" },
    });
  };
}

function address(apiBase: string | undefined) {
  if (!apiBase) return {};
  const { protocol, hostname, port } = new URL(apiBase);
  const isPlain = protocol === "http:";
  return {
    protocol: isPlain ? "http" as const : "https" as const,
    host: hostname,
    port: port || (isPlain ? "80" : "443"),
  };
}

/** Awaits a call of Stripe. Errors: 503 when it is worth trying again, 502 when Stripe refuses what we sent. */
export async function answered<Result>(call: Promise<Result>): Promise<Result> {
  try {
    return await call;
  } catch (error) {
    if (!(error instanceof Stripe.errors.StripeError)) throw error;
    throw isTransient(error) ? unavailable(error) : new HttpError(
      502,
      "stripe_refused",
      "Stripe refused the request; the function's log says why.",
      { cause: error },
    );
  }
}

/** A call under its key; a key that Stripe would answer with this failure for a day is given up by `discard`. */
export async function once<Result>(
  idempotencyKey: string,
  discard: (idempotencyKey: string) => Promise<void>,
  call: (options: Stripe.RequestOptions) => Promise<Result>,
): Promise<Result> {
  return await answered(
    call({ idempotencyKey }).catch(async (error) => {
      if (isKept(error)) await discard(idempotencyKey);
      throw error;
    }),
  );
}

/** Whether Stripe keeps answering this Idempotency-Key as it just did: with a failure, or that it is used otherwise. */
function isKept(error: unknown): boolean {
  return error instanceof Stripe.errors.StripeIdempotencyError ||
    error instanceof Stripe.errors.StripeAPIError &&
      (error.statusCode ?? 0) >= 500;
}

function isTransient(error: Stripe.errors.StripeError): boolean {
  return error instanceof Stripe.errors.StripeConnectionError ||
    error instanceof Stripe.errors.StripeRateLimitError ||
    error instanceof Stripe.errors.StripeIdempotencyError ||
    error instanceof Stripe.errors.StripeAPIError;
}

function unavailable(error: Stripe.errors.StripeError): HttpError {
  return new HttpError(
    503,
    "stripe_unavailable",
    "Stripe cannot be asked just now. Nothing was bought; try again.",
    { headers: { "retry-after": RETRY_AFTER_SECONDS }, cause: error },
  );
}
