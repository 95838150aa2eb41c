/** STRIPE_API_KEY → a client of Stripe whose calls answer or fail within seconds. */

import Stripe from "stripe";
import { HttpError } from "./respond.ts";

// A user is waiting: at most two tries of four seconds and half a second between them.
const TIMEOUT_MS = 4_000;
const RETRIES = 1;

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
