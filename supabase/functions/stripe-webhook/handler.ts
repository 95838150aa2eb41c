/** A POST from Stripe → one committed row in the inbox, then 200. What is refused leaves no trace. */

import { readText } from "../_tillbase/body.ts";
import { HttpError, refuse } from "../_tillbase/respond.ts";
import { parseEvent, type Receive } from "./receive.ts";
import { type Verify, verifySignature } from "./signature.ts";

export interface Dependencies {
  secrets: string[];
  verify: Verify;
  /** Milliseconds since the epoch. */
  now: () => number;
  receive: Receive;
}

const MAX_BODY_BYTES = 1024 * 1024;

export async function handler(
  request: Request,
  dependencies: Dependencies,
): Promise<Response> {
  try {
    const header = signatureHeader(request, dependencies.secrets);
    const body = await readText(request, MAX_BODY_BYTES);
    const event = parseEvent(
      await verifySignature(body, header, dependencies),
      body,
    );
    // Stripe never sends again what was answered 200, so the answer waits for the commit.
    return Response.json({ received: await dependencies.receive(event) });
  } catch (error) {
    return refuse("stripe-webhook", error);
  }
}

/** What can be refused before a byte of the body is read. No answer to OPTIONS: a browser has no business here. */
function signatureHeader(request: Request, secrets: string[]): string {
  if (request.method !== "POST") {
    throw new HttpError(405, "method_not_allowed", "Only POST is accepted.", {
      headers: { allow: "POST" },
    });
  }
  if (secrets.length === 0) {
    throw new HttpError(
      503,
      "webhook_secret_missing",
      "STRIPE_WEBHOOK_SECRET is not set. Set it to the signing secret (whsec_…) of the webhook endpoint.",
    );
  }
  const header = request.headers.get("stripe-signature");
  if (!header) {
    throw new HttpError(
      400,
      "invalid_signature",
      "The Stripe-Signature header is missing.",
    );
  }
  return header;
}
