/** A raw body and its Stripe-Signature header → the JSON value that Stripe signed. */

import { createHmac } from "node:crypto";
import Stripe from "stripe";
import { HttpError } from "../_tillbase/respond.ts";

export type Verify = (
  payload: string,
  header: string,
  secret: string,
  toleranceSeconds: number,
  receivedAtMs: number,
) => Promise<unknown>;

/** HMAC without WebCrypto: its way over another thread costs more than the sum over a body of a few kB. */
class InlineCrypto extends Stripe.CryptoProvider {
  override computeHMACSignatureAsync(payload: string, secret: string) {
    return Promise.resolve(
      createHmac("sha256", secret).update(payload).digest("hex"),
    );
  }
}
const inlineCrypto = new InlineCrypto();

/** Stripe's own check. Errors: StripeSignatureVerificationError, or why the signed body is not an event. */
export const verifyWithStripe: Verify = (
  payload,
  header,
  secret,
  toleranceSeconds,
  receivedAtMs,
) =>
  Stripe.webhooks.constructEventAsync(
    payload,
    header,
    secret,
    toleranceSeconds,
    inlineCrypto,
    receivedAtMs,
  );

/** docs.stripe.com/webhooks/signature: the SDK's default, which it applies to the past only. */
const TOLERANCE_SECONDS = 300;

/** STRIPE_WEBHOOK_SECRET → one or more signing secrets: two while one of them is being rotated out. */
export function signingSecrets(setting: string | undefined): string[] {
  return (setting ?? "").split(/[\s,]+/).filter((secret) => secret !== "");
}

/** Errors: 400 for a signature that no secret made, a timestamp out of tolerance, a body that is not JSON. */
export async function verifySignature(
  body: string,
  header: string,
  { secrets, verify, now }: {
    secrets: string[];
    verify: Verify;
    now: () => number;
  },
): Promise<unknown> {
  const receivedAt = now();
  checkTimestamp(header, receivedAt);
  for (const secret of secrets) {
    try {
      return await verify(body, header, secret, TOLERANCE_SECONDS, receivedAt);
    } catch (error) {
      // Anything else was raised after the signature had matched: not JSON, or a thin event.
      if (!isSignatureError(error)) {
        throw new HttpError(
          400,
          "invalid_event",
          "The signed body is not the JSON of a Stripe event.",
        );
      }
    }
  }
  throw new HttpError(
    400,
    "invalid_signature",
    "No signing secret matches. STRIPE_WEBHOOK_SECRET must hold the whsec_… of this endpoint, and the body must arrive unchanged.",
  );
}

/** The SDK accepts a timestamp from the future, and none at all; we want one, within tolerance both ways. */
function checkTimestamp(header: string, receivedAt: number): void {
  const timestamps = header.split(",").filter((part) => part.startsWith("t="));
  const timestamp = /^t=(\d{1,12})$/.exec(
    timestamps.length === 1 ? timestamps[0] : "",
  )?.[1];
  if (timestamp === undefined) {
    throw new HttpError(
      400,
      "invalid_signature",
      "The Stripe-Signature header has no single t=<seconds>.",
    );
  }
  if (
    Math.abs(Math.floor(receivedAt / 1000) - Number(timestamp)) >
      TOLERANCE_SECONDS
  ) {
    throw new HttpError(
      400,
      "timestamp_out_of_tolerance",
      `The signature's timestamp is more than ${TOLERANCE_SECONDS} seconds away from now.`,
    );
  }
}

function isSignatureError(error: unknown): boolean {
  return (error as { type?: unknown } | null)?.type ===
    "StripeSignatureVerificationError";
}
