/** A checkout that the database has judged → the customer and the session in Stripe. */

import Stripe from "stripe";
import { HttpError } from "../_tillbase/respond.ts";
import { answered, once } from "../_tillbase/stripe.ts";
import type { Books, Checkout, Claim } from "./books.ts";

/** Whatever breaks on the way, the same call later takes up where this one ended: the keys are the database's. */
export async function openSession(
  { customer, session, superseded }: Checkout,
  stripe: Stripe,
  books: Books,
): Promise<Stripe.Checkout.Session> {
  const customerId = "id" in customer
    ? customer.id
    : await books.link(customer, await findOrCreate(customer, stripe, books));
  for (const id of superseded) await expire(id, stripe);
  const opened = await once(
    session.idempotency_key,
    books.discard,
    (options) =>
      stripe.checkout.sessions.create(
        { ...session.params, customer: customerId },
        options,
      ).catch(refusePriceThatIsGone),
  );
  if (
    await books.record(session.idempotency_key, opened.id, superseded)
  ) return opened;
  await expire(opened.id, stripe);
  throw new HttpError(
    409,
    "superseded",
    "Another checkout was begun in the meantime, which excludes this one.",
  );
}

/** The price was deleted in Stripe, and its event has not come yet. */
function refusePriceThatIsGone(error: unknown): never {
  if (
    error instanceof Stripe.errors.StripeInvalidRequestError &&
    error.code === "resource_missing" &&
    /^line_items\b.*\bprice\b/.test(error.param ?? "")
  ) {
    throw new HttpError(
      404,
      "price_unknown",
      "This plan or pack is not on sale any more.",
      { cause: error },
    );
  }
  throw error;
}

/** Errors: 409 when that session was paid just now, and its event has not come yet. */
async function expire(sessionId: string, stripe: Stripe): Promise<void> {
  const { sessions } = stripe.checkout;
  try {
    await sessions.expire(sessionId);
  } catch (error) {
    if (!(error instanceof Stripe.errors.StripeInvalidRequestError)) {
      return await answered(Promise.reject(error));
    }
    // Stripe expires open sessions only, and says so in words alone.
    const { status } = await answered(sessions.retrieve(sessionId));
    if (status !== "complete") return;
    throw new HttpError(
      409,
      "already_subscribed",
      "There is a subscription already: use the portal to change it.",
    );
  }
}

async function findOrCreate(
  { lookup, token, params, idempotency_key }: Claim,
  stripe: Stripe,
  books: Books,
): Promise<string> {
  const made = lookup && (await answered(stripe.customers.list(lookup))).data
    .find(({ metadata }) => metadata.tillbase_claim === token);
  const customer = made || await once(
    idempotency_key,
    books.discard,
    (options) => stripe.customers.create(params, options),
  );
  return customer.id;
}
