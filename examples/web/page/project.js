/** The Supabase project of this app: its client, and its edge functions. */

const { url, publishableKey } = await (await fetch("/config.json")).json();
export const supabase = globalThis.supabase.createClient(url, publishableKey);

/** Calls an edge function; Error with what it says when it refuses. */
export async function invoke(name, body, method = "POST") {
  const { data, error } = await supabase.functions.invoke(name, {
    body,
    method,
  });
  if (error) throw await failure(error);
  return data;
}

/** What supabase-js threw of an edge function → an Error that says it to the user. */
async function failure({ context }) {
  const told = await context?.json?.().catch(() => null);
  const isUnanswered = !context?.status || context.status >= 500;
  const message = told?.error?.message ?? told?.message ??
    "That did not work. Try again.";
  return Object.assign(new Error(message), { isUnanswered });
}
