/** A signed-in user's GET → URLs of payment links that name the user's account. What is refused creates nothing. */

import type Stripe from "stripe";
import { answerGet } from "../_tillbase/browser.ts";
import { Fields } from "../_tillbase/fields.ts";
import { refuse } from "../_tillbase/respond.ts";
import type { Identify } from "../_tillbase/user.ts";
import type { Books, Wish } from "./books.ts";
import { obtainAll } from "./obtain.ts";

export interface Dependencies {
  identify: Identify;
  books: Books;
  stripe: (livemode: boolean) => Stripe;
}

export function handler(
  request: Request,
  { identify, books, stripe }: Dependencies,
): Promise<Response> {
  return answerGet(
    request,
    async () => {
      const userId = await identify(request);
      const wish = readWish(request);
      const { livemode, links, reference } = await books.prepare(userId, wish);
      const urls = (await obtainAll(links, stripe(livemode), books)).map((
        [name, url],
      ) => [name, named(url, reference)]);
      return Response.json(
        wish.plan ?? wish.pack
          ? { payment_link: urls[0][1] }
          : { payment_links: Object.fromEntries(urls) },
      );
    },
    (error) => refuse("payment-links", error),
  );
}

/** Only the parameters that are named here are looked at. */
function readWish(request: Request): Wish {
  const { searchParams } = new URL(request.url);
  const fields = new Fields(Object.fromEntries(searchParams));
  return {
    plan: fields.text("plan"),
    pack: fields.text("pack"),
    accountId: fields.uuid("account_id"),
  };
}

/** The link's URL with the account that a payment through it is for. */
function named(url: string, reference: string): string {
  const address = new URL(url);
  address.searchParams.set("client_reference_id", reference);
  return address.href;
}
