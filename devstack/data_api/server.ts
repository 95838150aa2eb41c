/** http://127.0.0.1:PORT → the Data API over the local stack's Postgres, sign-in, and its edge functions. */

// deno run … server.ts PORT, with the settings in the environment and the functions' URL as first line of standard
// input: they start while this is loading. Ends when its standard input closes, so that it cannot outlive the
// process that started it.

import { answer, oneLine } from "./gateway.ts";
import { signer, trustedKeys } from "./tokens.ts";
import type { Auth } from "./auth.ts";
import type { Serve } from "./lite.ts";

const HEALTH = "/_health";
// Not static: else Deno fetches their packages before the first line of this runs.
const DATA_API = "./lite.ts", AUTH = "./auth.ts", USERS = "./users.ts";

const functionsUrl = Promise.withResolvers<string>();
const dependencies = {
  publishableKey: setting("SUPABASE_PUBLISHABLE_KEY"),
  secretKey: setting("SUPABASE_SECRET_KEY"),
  trust: {
    keys: await trustedKeys(setting("SUPABASE_JWKS")),
    audience: "authenticated",
    issuer: setting("TOKEN_ISSUER"),
  },
  loaded: () => loading,
  jwks: setting("SUPABASE_JWKS"),
  functionsUrl: functionsUrl.promise,
};

// What lite forgets to await must not end us.
addEventListener("unhandledrejection", (event) => {
  event.preventDefault();
  console.error("unhandled rejection:", event.reason);
});

Deno.serve({
  hostname: "127.0.0.1",
  port: Number(Deno.args[0]),
  onListen: ({ port }) => console.log(JSON.stringify({ listening: port })),
}, async (request) => {
  if (new URL(request.url).pathname === HEALTH) {
    return Response.json({ failure: await failure() });
  }
  return await answer(request, dependencies);
});

const loading = load();
loading.catch((error) =>
  console.error("the packages cannot be loaded:", error)
);

const lines = Deno.stdin.readable.pipeThrough(new TextDecoderStream());
for await (const line of lines) functionsUrl.resolve(line.trim());
Deno.exit(0);

async function load(): Promise<{ serve: Serve; auth: Auth }> {
  const [{ dataApi }, { authOf }, { usersOf }] = await Promise.all(
    [DATA_API, AUTH, USERS].map((module) => import(module)),
  );
  const users = usersOf(setting("AUTH_DB_URL"));
  const sign = await signer(setting("AUTH_SIGNING_KEY"));
  return {
    serve: dataApi(setting("POSTGRES_URL")),
    auth: authOf({ users, sign, trust: dependencies.trust }),
  };
}

async function failure(): Promise<string | null> {
  try {
    await loading;
    return null;
  } catch (error) {
    return oneLine(error);
  }
}

function setting(name: string): string {
  const value = Deno.env.get(name);
  if (!value) throw new Error(`${name} is missing`);
  return value;
}
