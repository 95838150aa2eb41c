/** The accounts of the signed-in user → the one that the page shows. Remembered by this browser. */

import { $, element } from "./parts.js";
import { supabase } from "./project.js";

let accounts = [];

/** The account whose credits are shown, spent and bought. */
export function account() {
  const chosen = sessionStorage.getItem("account");
  return accounts.find(({ account_id }) => account_id === chosen) ??
    accounts.find(({ kind }) => kind === "personal") ?? accounts[0];
}

/** Owners and admins buy for a team; its members spend. */
export function mayBuy() {
  return account()?.role !== "member";
}

export function switchTo(accountId) {
  sessionStorage.setItem("account", accountId);
}

export async function loadAccounts() {
  const { data, error } = await supabase.from("billing_account").select()
    .order("kind").order("name");
  if (error) throw error;
  accounts = data;
  $("accounts").hidden = accounts.length < 2;
  $("account").replaceChildren(
    ...accounts.map(({ account_id, name }) =>
      element("option", {
        value: account_id,
        textContent: name ?? "My own",
        selected: account_id === account().account_id,
      })
    ),
  );
}
