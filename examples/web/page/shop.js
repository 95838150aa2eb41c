/** What is on sale → cards with buttons that lead to Stripe, and back here. */

import { account, mayBuy } from "./account.js";
import { $, element, money, pressed, show } from "./parts.js";
import { invoke, supabase } from "./project.js";

let plans = [];
let shown;

/** Goes to Stripe's page; where it leads back is this page, which says what came of it. */
async function leaveFor(name, body) {
  sessionStorage.setItem("balance", $("balance").dataset.updated ?? "");
  location.href = (await invoke(name, body)).url;
}

function buy(what) {
  return leaveFor("checkout", {
    ...what,
    account_id: account().account_id,
    success_url: `${location.origin}/?checkout=done`,
    cancel_url: `${location.origin}/?checkout=cancelled`,
  });
}

export function change(flow) {
  return leaveFor("portal", {
    flow: flow || null,
    account_id: account().account_id,
    return_url: `${location.origin}/?portal=done`,
  });
}

function action(label, work) {
  const button = element("button", { textContent: label });
  button.addEventListener("click", () => pressed(button, work));
  return button;
}

function card(title, text, price, credits, button) {
  return element(
    "li",
    { className: "card" },
    element("h3", { textContent: title }),
    element("p", { className: "amount", textContent: price }),
    text && element("p", { textContent: text }),
    element("p", { textContent: credits }),
    button,
  );
}

export async function loadPlans() {
  const { data } = await supabase.from("billing_plans").select()
    .order("unit_amount");
  plans = data ?? [];
  shown = undefined;
  showPlans(null);
}

/** The name that a price goes by. */
export function nameOf(priceId) {
  return plans.find((plan) => plan.stripe_price_id === priceId)?.name ??
    "A former plan";
}

/** Plans, each with what a user who has this subscription may do about it. */
export function showPlans(subscription) {
  const subscribed = subscription?.stripe_price_id ?? null;
  // Who is not signed in sees what there is; so do members of a team.
  const offers = !$("app").hidden && mayBuy();
  const now = `${offers} ${subscribed}`;
  if (now === shown) return; // keeps the focus on a button
  shown = now;
  $("plans").replaceChildren(...plans.map((plan) =>
    card(
      plan.name,
      plan.description,
      priceOf(plan),
      `${plan.monthly_credits} credits a month` +
        (plan.initial_credits ? `, ${plan.initial_credits} at the start` : ""),
      offers ? step(plan, subscribed) : null,
    )
  ));
}

function priceOf({ unit_amount, currency, ...plan }) {
  const { recurring_interval: interval, recurring_interval_count: count } =
    plan;
  if (unit_amount === null) return "By what you use";
  const every = count === 1 ? `a ${interval}` : `every ${count} ${interval}s`;
  return `${money(unit_amount, currency)} ${every}`;
}

/** What the user may do about a plan: subscribe, or change to it when there is a subscription. */
function step(plan, subscribedPriceId) {
  if (!subscribedPriceId) {
    const key = plan.lookup_key ?? plan.stripe_price_id;
    const link = action("Payment link", () => showLink(key));
    link.className = "quiet";
    return element(
      "div",
      { className: "row" },
      action("Subscribe", () => buy({ plan: key })),
      link,
    );
  }
  if (subscribedPriceId === plan.stripe_price_id) {
    return element("p", { className: "yours", textContent: "Your plan" });
  }
  return action(`Change to ${plan.name}`, () => change("update_plan"));
}

/** For somebody who pays in the user's place: the link names this account by a signature. */
async function showLink(key) {
  const { payment_link } = await invoke(
    `payment-links?${new URLSearchParams({
      plan: key,
      account_id: account().account_id,
    })}`,
    undefined,
    "GET",
  );
  show(
    $("notice"),
    "The person who pays here becomes your account's customer: ",
  );
  $("notice").append(
    element("a", {
      href: payment_link,
      textContent: payment_link.split("?")[0],
    }),
  );
}

export async function loadPacks() {
  const { data } = await supabase.from("billing_packs").select()
    .order("unit_amount");
  $("packs").replaceChildren(...(data ?? []).map((pack) =>
    card(
      pack.pack_credits === null
        ? `${pack.credits_per_unit} credits per ${pack.currency.toUpperCase()}`
        : `${pack.pack_credits} credits`,
      null,
      pack.unit_amount === null
        ? "You choose the amount"
        : money(pack.unit_amount, pack.currency),
      pack.expires_after === null
        ? "once, they never expire"
        : `once, they expire after ${
          pack.expires_after.replace("mon", "month")
        }`,
      action("Buy", () =>
        buy({
          pack: pack.lookup_key ?? pack.stripe_price_id,
          save_card: $("save-card").checked,
        })),
    )
  ));
}
