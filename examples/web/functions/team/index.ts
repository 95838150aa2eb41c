/** A signed-in user's name for a team → the team, which they own. The app's own server decides who may have one. */

import { withSupabase } from "@supabase/server";

const NAME_MAX = 60;

export default {
  fetch: withSupabase(
    { auth: "user", audience: "authenticated" },
    async (request, { supabaseAdmin, userClaims }) => {
      const { name } = Object(await request.json().catch(() => null));
      if (
        typeof name !== "string" || !name.isWellFormed() ||
        name.includes("\0") || !name.trim() || name.length > NAME_MAX
      ) {
        return refusal(400, "invalid_request", "Send a name for the team.");
      }
      const { data, error } = await supabaseAdmin.rpc("create_team", {
        name,
        owner_id: userClaims!.id,
      });
      if (error) {
        console.error(JSON.stringify(error));
        return refusal(503, "try_again", "The team could not be created.");
      }
      return Response.json({ account_id: data.id, name: data.name });
    },
  ),
};

function refusal(status: number, code: string, message: string): Response {
  return Response.json({ error: { code, message } }, { status });
}
