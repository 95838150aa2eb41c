/** Links that the database has judged → their URLs: as they were made, or made now. */

import Stripe from "stripe";
import { HttpError } from "../_tillbase/respond.ts";
import { answered, once } from "../_tillbase/stripe.ts";
import type { Books, Claim, Link } from "./books.ts";

// Stripe takes few requests in a second, and all users share them.
const LINKS_AT_ONCE = 5;

/** → name and URL of each. */
export async function obtainAll(
  links: Link[],
  stripe: Stripe,
  books: Books,
): Promise<[string, string][]> {
  const urls: [string, string][] = [];
  while (urls.length < links.length) {
    const next = links.slice(urls.length, urls.length + LINKS_AT_ONCE);
    const obtained = next.map(async (link): Promise<[string, string]> => [
      link.name,
      await obtain(link, stripe, books),
    ]);
    urls.push(...await Promise.all(obtained));
  }
  return urls;
}

/** Whatever breaks on the way, the same call later takes up where this one ended: the keys are the database's. */
async function obtain(
  link: Link,
  stripe: Stripe,
  books: Books,
): Promise<string> {
  if ("url" in link) {
    if (!link.check) return link.url;
    if (await stands(link.id, stripe)) {
      await books.confirm(link.id);
      return link.url;
    }
    return await obtain(
      await books.replace(link.id, link.name),
      stripe,
      books,
    );
  }
  const made = await findOrCreate(link, stripe, books);
  const url = await books.note(link.token, made.id, made.url);
  if (url !== null) return url;
  throw new HttpError(
    409,
    "superseded",
    "The plan was changed in the meantime; ask again.",
  );
}

/** Errors: 503 when Stripe cannot say. */
async function stands(id: string, stripe: Stripe): Promise<boolean> {
  try {
    return (await stripe.paymentLinks.retrieve(id)).active;
  } catch (error) {
    if ((error as { statusCode?: number }).statusCode === 404) return false;
    return await answered(Promise.reject(error));
  }
}

async function findOrCreate(
  { lookup, token, params, idempotency_key }: Claim,
  stripe: Stripe,
  books: Books,
): Promise<Stripe.PaymentLink> {
  const made = lookup && (await answered(stripe.paymentLinks.list(lookup))).data
    .find(({ metadata }) => metadata.tillbase_link === token);
  return made || await once(
    idempotency_key,
    books.discard,
    (options) => stripe.paymentLinks.create(params, options),
  );
}
