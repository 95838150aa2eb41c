/** The page: who is signed in → what they may buy, what they have, and what they do with it. */

import { account, loadAccounts, mayBuy, switchTo } from "./account.js";
import { follow } from "./follow.js";
import { $, element, pressed, show } from "./parts.js";
import { invoke, supabase } from "./project.js";
import { change, loadPacks, loadPlans, nameOf, showPlans } from "./shop.js";
import { acceptInvitation, loadTeam } from "./team.js";

const HISTORY_ROWS = 20;
const HURRY_MS = 30_000;
const DAY = new Intl.DateTimeFormat(undefined, { dateStyle: "long" });
const MOMENT = new Intl.DateTimeFormat(undefined, {
  month: "short",
  day: "numeric",
  hour: "numeric",
  minute: "2-digit",
});
let following = { again() {}, stop() {} };
let userId;
// Something was done at Stripe, and its events are on their way.
let hurryUntil = 0;
// The id of a click that has no answer yet: sent again it is the same click, and costs nothing more.
let click = null;

function showBalance({ available, updated_at }) {
  $("balance").textContent = `${available} credits`;
  $("balance").dataset.updated = updated_at;
  const before = sessionStorage.getItem("balance");
  if (before === null || before === updated_at) return;
  sessionStorage.removeItem("balance");
  show($("notice"), "Your credits are here.");
}

function showSubscription(subscription) {
  $("subscription").hidden = !subscription;
  showPlans(subscription);
  if (!subscription) return;
  const { stripe_price_id, status, cancels_at, current_period_end } =
    subscription;
  const ends = cancels_at ? "It ends on" : "The next period begins on";
  const day = DAY.format(new Date(cancels_at ?? current_period_end));
  $("subscription-state").textContent = `${
    nameOf(stripe_price_id)
  }, ${status}. ${ends} ${day}.`;
  document.querySelector('[data-flow="cancel"]').hidden = Boolean(cancels_at);
}

async function loadHistory() {
  const asked = account();
  const { data } = await supabase.from("credit_history").select()
    .eq("account_id", asked.account_id)
    .order("id", { ascending: false }).limit(HISTORY_ROWS);
  if (asked !== account()) return; // another account is shown by now
  $("history").replaceChildren(...(data ?? []).map((entry) =>
    element(
      "tr",
      {},
      element("td", {
        textContent: MOMENT.format(new Date(entry.occurred_at)),
      }),
      element("td", { textContent: entry.description ?? entry.kind }),
      element("td", {
        className: "number",
        textContent: entry.amount > 0 ? `+${entry.amount}` : entry.amount,
      }),
      element("td", { className: "number", textContent: entry.balance_after }),
    )
  ));
}

/** What came of the visit to Stripe, told once. */
function greet() {
  const query = new URLSearchParams(location.search);
  history.replaceState(null, "", "/");
  if (query.has("invitation")) {
    sessionStorage.setItem("invitation", query.get("invitation"));
    show($("notice"), "Sign in with the address that was invited.");
    return;
  }
  if (query.get("checkout") !== "done") sessionStorage.removeItem("balance");
  if (query.get("checkout") === "cancelled") {
    show($("notice"), "Nothing was bought.");
  } else if (query.size > 0) {
    hurryUntil = Date.now() + HURRY_MS;
  }
  if (query.get("checkout") === "done") {
    show($("notice"), "Thank you. Your credits are on their way.");
  }
}

async function enter(session) {
  following.stop();
  $("signed-in").hidden = !session;
  $("door").hidden = Boolean(session);
  $("email").textContent = session?.user.email ?? "";
  show($("problem"), null);
  if (session) {
    // First, because everything that follows is for an account.
    await acceptInvitation();
    await loadAccounts();
    if (session.user.id !== userId) return;
  }
  for (const id of ["app", "shop", "team", "past"]) $(id).hidden = !session;
  await loadPlans();
  if (!session) return;
  await Promise.all([loadPacks(), showPrice()]);
  if (session.user.id !== userId) return;
  showAccount();
}

/** What one account has: the user's own, or a team's. */
function showAccount() {
  following.stop();
  $("haiku").hidden = true;
  const shown = account();
  $("shop").hidden = $("portal").hidden = !mayBuy();
  showSubscription(null);
  following = follow({
    accountId: shown.account_id,
    onBalance: showBalance,
    onMovement() {
      loadHistory();
      // Not while somebody types a budget into it.
      if (!$("members").contains(document.activeElement)) {
        loadTeam(shown, userId).catch((error) =>
          show($("problem"), error.message)
        );
      }
    },
    onSubscription: showSubscription,
    isExpecting: () => Date.now() < hurryUntil,
  });
}

function leave() {
  show($("notice"), null);
  $("haiku").hidden = true;
  showSubscription(null);
  for (const id of ["history", "packs", "balance", "members"]) {
    $(id).replaceChildren();
  }
}

$("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  const credentials = {
    email: $("address").value,
    password: $("password").value,
  };
  pressed(event.submitter, async () => {
    const { error } = event.submitter.value === "up"
      ? await supabase.auth.signUp(credentials)
      : await supabase.auth.signInWithPassword(credentials);
    if (error) throw error;
    event.target.reset();
  });
});

$("sign-out").addEventListener("click", () => {
  pressed($("sign-out"), async () => {
    await supabase.auth.signOut();
    leave();
  });
});

$("write").addEventListener("submit", (event) => {
  event.preventDefault();
  pressed(event.submitter, async () => {
    const wish = { topic: $("topic").value, lines: Number($("lines").value) };
    if (click?.topic !== wish.topic || click.lines !== wish.lines) {
      click = { id: crypto.randomUUID(), ...wish };
    }
    try {
      const { lines } = await invoke("haiku", {
        topic: click.topic,
        lines: click.lines,
        click: click.id,
        account_id: account().account_id,
      });
      click = null;
      $("haiku").replaceChildren(
        ...lines.map((line) => element("p", { textContent: line })),
      );
      $("haiku").hidden = false;
      following.again();
    } catch (error) {
      // Whether it was spent is not known: the same click asks again.
      if (!error.isUnanswered) click = null;
      throw error;
    }
  });
});

// Read again, because the role in a team may have changed meanwhile.
async function reloadAccounts() {
  await loadAccounts();
  showAccount();
}

/** What the price list asks for the chosen form. */
async function showPrice() {
  const { data } = await supabase.rpc("estimate_work", {
    operation: "poem",
    quantities: { lines: Number($("lines").value) },
  });
  $("price").textContent = data ? `${data[0].credits} credits` : "";
}

$("lines").addEventListener("change", showPrice);

$("account").addEventListener("change", () => {
  switchTo($("account").value);
  pressed($("account"), reloadAccounts);
});
// A team was created, joined or left.
document.addEventListener("accounts", reloadAccounts);

for (const button of document.querySelectorAll("[data-flow]")) {
  button.addEventListener(
    "click",
    () => pressed(button, () => change(button.dataset.flow)),
  );
}

greet();
supabase.auth.onAuthStateChange((_, session) => {
  if (userId === (session?.user.id ?? null)) return; // the same person with a fresh token
  userId = session?.user.id ?? null;
  // Not in the callback itself: supabase-js holds its lock meanwhile.
  setTimeout(() => enter(session));
});
