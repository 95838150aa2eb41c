/** What an app does with supabase-js, unchanged, on the local stack → its answers as JSON on standard output. */

// deno run … data_api_client.ts URL PUBLISHABLE_KEY SECRET_KEY ACCESS_TOKEN USER_ID

import { createClient } from "npm:@supabase/supabase-js@2.119.1";

const [url, publishableKey, secretKey, token, userId] = Deno.args;
const visitor = createClient(url, publishableKey);
const user = createClient(url, publishableKey, {
  accessToken: () => Promise.resolve(token),
});
const server = createClient(url, secretKey);

const balances = await user.from("credit_balance")
  .select("account_id, balance, updated_at").single();
const account = balances.data?.account_id;
const grant = {
  account_id: account,
  amount: 5,
  idempotency_key: "js",
  description: "A gift",
};

console.log(JSON.stringify({
  balances,
  visitorsPlans: await visitor.from("billing_plans").select("*"),
  visitorsBalances: await visitor.from("credit_balance").select("*"),
  usersUpdate: await user.from("credit_balance").update({ balance: 9 })
    .eq("account_id", account),
  usersGrant: await user.rpc("grant_credits", grant),
  serversGrant: await server.rpc("grant_credits", grant),
  history: await user.from("credit_history").select("amount, description")
    .order("id", { ascending: false }).limit(1),
  count: await user.from("credit_history").select("*", {
    count: "exact",
    head: true,
  }),
  serversAccount: await server.rpc("ensure_account", { user_id: userId }),
  functionsAnswer: await invoked("stripe-webhook"),
}));

async function invoked(name: string): Promise<unknown> {
  const { error } = await visitor.functions.invoke(name, { body: {} });
  return { status: error.context.status, body: await error.context.json() };
}
