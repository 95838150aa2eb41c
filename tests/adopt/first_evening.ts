/** An app's browser, with supabase-js: signs up and opens the checkout (`buy`), or reads the credits (`read`). */

// deno run … first_evening.ts URL PUBLISHABLE_KEY buy|read

import { createClient } from "npm:@supabase/supabase-js@2.119.1";

const [url, key, step] = Deno.args;
const user = { email: "ada@example.com", password: "a password of hers" };
const supabase = createClient(url, key);

if (step === "buy") {
  const { error } = await supabase.auth.signUp(user);
  if (error) throw error;
  const { data, error: refusal } = await supabase.functions.invoke(
    "tillbase-checkout",
    { body: { plan: "pro_monthly" } },
  );
  if (refusal) throw new Error(await refusal.context.text());
  console.log(JSON.stringify(data));
} else {
  const { error } = await supabase.auth.signInWithPassword(user);
  if (error) throw error;
  for (;;) {
    const { data, error } = await supabase.from("credit_balance").select(
      "available",
    ).single();
    if (error) throw new Error(error.message);
    if (data.available > 0) {
      console.log(JSON.stringify(data));
      break;
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
Deno.exit(0);
