/** A signed-in user's click → a haiku, paid with credits. Credits are spent here and not in the browser: only the
 * app's own server may, with the project's secret key. */

import { withSupabase } from "@supabase/server";
import { haiku } from "./haiku.ts";

const OPERATION = "poem"; // in the price list
const LENGTHS = [3, 5];
const TOPIC_MAX = 60;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** The ledger's error codes that are the user's affair. */
const REFUSALS: Record<string, [number, string, string]> = {
  TB001: [
    402,
    "not_enough_credits",
    "Not enough credits: a plan or a pack brings more.",
  ],
  TB002: [409, "another_poem", "This click was for another poem."],
  TB003: [403, "account_frozen", "This account is frozen."],
  TB091: [
    402,
    "budget_used_up",
    "Your budget in this team is used up: an owner can raise it.",
  ],
  TB008: [403, "account_closed", "This account is closed."],
};

export default {
  // Who asks is what the verified token says, never what the body says.
  fetch: withSupabase(
    { auth: "user", audience: "authenticated" },
    async (request, { supabase, supabaseAdmin, userClaims }) => {
      // Also `null` and `[]` are JSON.
      const { topic, click, lines = 3, account_id } = Object(
        await request.json().catch(() => null),
      );
      if (
        !isText(topic) || !topic.trim() || !isId(click)
      ) {
        return refusal(400, "invalid_request", "Send a topic and a click id.");
      }
      if (topic.length > TOPIC_MAX) {
        return refusal(400, "invalid_request", "The topic is too long.");
      }
      if (!LENGTHS.includes(lines)) {
        return refusal(400, "invalid_request", "A poem has 3 lines or 5.");
      }
      if (account_id != null && !isId(account_id)) {
        return refusal(400, "invalid_request", "Send an account's id.");
      }
      // A team's credits are for its members: read with the user's own token, row level security answers.
      const account = account_id == null
        ? await supabaseAdmin.rpc("ensure_account", { user_id: userClaims!.id })
        : await supabase.from("billing_account").select("account_id")
          .eq("account_id", account_id).maybeSingle();
      if (!account.error && !account.data) {
        return refusal(403, "account_forbidden", "This account is not yours.");
      }
      // The click's id is the idempotency key: sent again, it spends nothing more, and it cannot be used for another
      // topic.
      const spent = account.error ? account : await supabaseAdmin.rpc(
        "spend_work",
        {
          account_id: account_id ?? account.data,
          operation: OPERATION,
          quantities: { lines },
          idempotency_key: `haiku:${click}`,
          description: `${lines === 3 ? "Haiku" : "Tanka"}: ${topic.trim()}`,
          // Whose budget it counts in, where an owner of the team has set one.
          actor: `member:${userClaims!.id}`,
        },
      );
      if (spent.error) {
        const known = REFUSALS[spent.error.code];
        if (known) return refusal(...known);
        console.error(JSON.stringify(spent.error));
        return refusal(503, "try_again", "The credits could not be spent.");
      }
      return Response.json({
        lines: haiku(`${click} ${topic.trim()}`, lines),
        credits: spent.data.charged,
      });
    },
  ),
};

function isId(value: unknown): value is string {
  return typeof value === "string" && UUID.test(value);
}

/** A text that Postgres can store. */
function isText(value: unknown): value is string {
  return typeof value === "string" && value.isWellFormed() &&
    !value.includes("\0");
}

function refusal(status: number, code: string, message: string): Response {
  return Response.json({ error: { code, message } }, { status });
}
