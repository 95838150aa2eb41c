/** A signed-in user's GET → URLs of payment links that name the user's account. What is refused creates nothing. */

import { answerGet } from "../_tillbase/browser.ts";
import { Fields } from "../_tillbase/fields.ts";
import { refuse } from "../_tillbase/respond.ts";
import type { CarryOut } from "../_tillbase/steps.ts";
import type { Identify } from "../_tillbase/user.ts";
import type { Link, Prepare, Prepared, Wish } from "./prepare.ts";

// Stripe takes few requests in a second, and all users share them.
const LINKS_AT_ONCE = 5;

export interface Dependencies {
  identify: Identify;
  prepare: Prepare;
  carryOut: CarryOut<Link>;
}

export function handler(
  request: Request,
  { identify, prepare, carryOut }: Dependencies,
): Promise<Response> {
  return answerGet(
    request,
    async () => {
      const userId = await identify(request);
      const wish = readWish(request);
      const urls = await obtain(await prepare(userId, wish), carryOut);
      return Response.json(
        wish.plan ?? wish.pack
          ? { payment_link: urls[0][1] }
          : { payment_links: Object.fromEntries(urls) },
      );
    },
    (error) => refuse("payment-links", error),
  );
}

/** → name and URL of each. */
async function obtain(
  { links, reference }: Prepared,
  carryOut: CarryOut<Link>,
): Promise<[string, string][]> {
  const urls: [string, string][] = [];
  while (urls.length < links.length) {
    const next = links.slice(urls.length, urls.length + LINKS_AT_ONCE);
    const obtained = next.map(async (
      { name, step },
    ): Promise<typeof urls[0]> => [
      name,
      named((await carryOut(step)).url, reference),
    ]);
    urls.push(...await Promise.all(obtained));
  }
  return urls;
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
