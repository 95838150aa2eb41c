/** An account → its balance and subscription as they change, without a reload.
 *
 * Realtime reports every movement; if its channel cannot be joined, the rows are read again periodically.
 */

import { supabase } from "./project.js";

const HURRIED_POLL_MS = 300;
const POLL_MS = 1000;
const CALM_POLL_MS = 15000; // beside Realtime, which tells nothing of subscriptions

/** `again` reads at once, `stop` ends it. */
export function follow(
  { accountId, onBalance, onMovement, onSubscription, isExpecting },
) {
  let seen;
  let timer;
  let pollMs = POLL_MS;
  let reads = 0;

  async function read() {
    clearTimeout(timer);
    const mine = ++reads;
    const [balance, subscription] = await Promise.all([
      supabase.from("credit_balance").select().eq("account_id", accountId)
        .maybeSingle(),
      supabase.from("billing_subscription").select()
        .eq("account_id", accountId).is("ended_at", null)
        .neq("status", "incomplete")
        .order("current_period_end", { ascending: false }).limit(1)
        .maybeSingle(),
    ]);
    if (mine !== reads) return; // another one is on its way, or this ended
    if (!subscription.error) onSubscription(subscription.data);
    if (balance.data) {
      onBalance(balance.data);
      if (seen !== balance.data.updated_at) onMovement();
      seen = balance.data.updated_at;
    }
    timer = setTimeout(read, isExpecting() ? HURRIED_POLL_MS : pollMs);
  }

  // A page that nobody sees asks for nothing.
  function onVisibility() {
    if (document.hidden) clearTimeout(timer);
    else read();
  }

  const channel = supabase.channel("balance").on(
    "postgres_changes",
    { event: "*", schema: "billing", table: "credit_balances" },
    read,
  );
  channel.subscribe((status) => {
    if (status === "SUBSCRIBED") pollMs = CALM_POLL_MS;
    if (status === "CHANNEL_ERROR" || status === "TIMED_OUT") {
      pollMs = POLL_MS;
      supabase.removeChannel(channel); // else it retries forever
    }
  });
  document.addEventListener("visibilitychange", onVisibility);
  read();

  return {
    again: read,
    stop() {
      reads++;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", onVisibility);
      supabase.removeChannel(channel);
    },
  };
}
