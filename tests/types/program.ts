// What an app writes with types/tillbase.ts: tests/test_types.py has it checked, nobody runs it.
import { createClient } from "npm:@supabase/supabase-js@2.119.1";
import type { Database, Tables } from "../../types/tillbase.ts";

const supabase = createClient<Database>("http://127.0.0.1:54321", "key");

export async function available(): Promise<number> {
  const { data } = await supabase.from("credit_balance").select(
    "balance, held, available",
  ).single();
  return data?.available ?? 0;
}

export async function latest(): Promise<Tables<"credit_history">[]> {
  const { data } = await supabase.from("credit_history").select().order("id", {
    ascending: false,
  }).limit(10);
  return data ?? [];
}

export async function spend(
  account_id: string,
  amount: number,
): Promise<number> {
  const { data: entry, error } = await supabase.rpc("spend_credits", {
    account_id,
    amount,
    idempotency_key: "render-1",
  });
  if (error) throw error;
  return entry.balance_after;
}

export function listen(show: (balance: number) => void) {
  const balances = {
    event: "UPDATE",
    schema: "billing",
    table: "credit_balances",
  } as const;
  return supabase
    .channel("credits")
    .on<Tables<{ schema: "billing" }, "credit_balances">>(
      "postgres_changes",
      balances,
      (change) => show(change.new.balance),
    )
    .subscribe();
}
