/** A database → its Data API, as @supabase/lite serves it in place of PostgREST. */

import { App } from "@supabase/lite";
import { createPostgresConnection } from "@supabase/lite/postgres";
import "postgres"; // lite's driver, which it leaves to us to install
import { answerable } from "./errors.ts";
import type { Claims } from "./tokens.ts";

/** Answers a request with the role and the claims given; what the request says of itself doesn't count. */
export type Serve = (
  request: Request,
  claims: Claims & { role: string },
) => Promise<Response>;

const NOT_FOUND_IN_CACHE = ["PGRST200", "PGRST202", "PGRST204", "PGRST205"];

/** The Data API of a database, of its schema `public`; the login must be able to take every role. */
export function dataApi(databaseUrl: string): Serve {
  const connection = createPostgresConnection({
    url: databaseUrl,
    postgresOptions: {
      types: {
        timestamp: iso(1114),
        timestamptz: iso(1184),
        json: json(114),
        jsonb: json(3802),
      },
    },
  });
  // Else lite's first request grants everything in every schema to anon: no test of ours would mean anything then.
  override(connection, "ensureRlsContext", () => Promise.resolve(true));
  override(connection, "normalizeDbError", answerable);
  const claimsOf = new WeakMap<Request, Claims>();
  const app = new App({
    connection,
    api: { schemas: ["public"] },
    // lite knows HS256 secrets only, and looks users and sessions up that are not here: who asks is judged before.
    auth: { enabled: false },
    options: {
      server: {
        apiKeys: false,
        middlewares: [async (context, next) => {
          const claims = claimsOf.get(context.req.raw);
          if (!claims) throw new Error("a request without claims");
          context.set("jwt", claims);
          context.set("ignoreAuthorization", true);
          context.set(
            "apiKeyType",
            claims.role === "service_role" ? "secret" : "publishable",
          );
          await next();
        }],
      },
    },
  });

  async function ask(request: Request, claims: Claims): Promise<Response> {
    claimsOf.set(request, claims);
    // No peer address: lite has an admin mode for local callers without a key.
    return await app.fetch(request, { peerAddress: null });
  }

  return async (request, claims) => {
    const again = request.clone();
    const response = await ask(request, claims);
    if (response.ok || !await isNotFoundInCache(response)) return response;
    await connection.clearSchemaCache(); // there may have been a migration
    return await ask(again, claims);
  };
}

function override(connection: object, name: string, value: unknown): void {
  if (!(name in connection)) throw new Error(`lite has no ${name} any more`);
  Object.defineProperty(connection, name, { value });
}

async function isNotFoundInCache(response: Response): Promise<boolean> {
  const error = await response.clone().json().catch(() => null);
  return NOT_FOUND_IN_CACHE.includes(error?.code);
}

/** Times as PostgREST writes them, not as Postgres does; by the type's oid. */
function iso(oid: number) {
  return {
    to: oid,
    from: [oid],
    serialize: (value: string) => value,
    parse: (text: string) =>
      text.replace(" ", "T").replace(/[+-]\d\d$/, "$&:00"),
  };
}

/** JSON as lite passes it: as text already, which the driver would write as a JSON string; by the type's oid. */
function json(oid: number) {
  return {
    to: oid,
    from: [oid],
    serialize: (value: unknown) =>
      typeof value === "string" ? value : JSON.stringify(value),
    parse: (text: string) => JSON.parse(text),
  };
}
