/** Signing up, in and out with supabase-js, unchanged, on the local stack → its answers as JSON on standard output. */

// deno run … auth_client.ts URL PUBLISHABLE_KEY EMAIL

import { createClient } from "npm:@supabase/supabase-js@2.119.1";

const [url, key, email] = Deno.args;
const password = "correct horse";
const supabase = createClient(url, key);
const { auth } = supabase;

// deno-lint-ignore no-explicit-any
const told = ({ error }: any) => ({ status: error?.status, code: error?.code });

const weak = await auth.signUp({ email, password: "short" });
const up = await auth.signUp({ email, password });
const again = await auth.signUp({ email, password });
const balance = await supabase.from("credit_balance").select("balance");
const wrong = await auth.signInWithPassword({ email, password: "wrong horse" });
const back = await auth.signInWithPassword({ email, password });
const user = await auth.getUser();
const claims = await auth.getClaims();
const before = back.data.session!;
const after = (await auth.refreshSession()).data.session!;
await auth.signOut();
const ended = await createClient(url, key).auth.getUser(after.access_token);
const channel = await new Promise<string>((resolve) =>
  supabase.channel("balance")
    .on(
      "postgres_changes",
      { event: "UPDATE", schema: "billing", table: "credit_balances" },
      () => {},
    )
    .subscribe((status) => resolve(status))
);

console.log(JSON.stringify({
  weak: {
    name: weak.error?.name,
    code: weak.error?.code,
    reasons: (weak.error as unknown as { reasons: string[] }).reasons,
  },
  signedUp: up.error === null && up.data.session !== null,
  again: told(again),
  balance: balance.data,
  wrong: told(wrong),
  sameUser: user.data.user?.id === up.data.user?.id,
  claims: claims.data?.claims.role,
  refreshed: after.refresh_token !== before.refresh_token,
  sessionAfter: (await auth.getSession()).data.session,
  endedToken: ended.error?.name,
  channel,
}));
Deno.exit(0);
