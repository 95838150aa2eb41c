/** A request's access token → the id of the user whom Supabase Auth issued it to. */

import { HttpError } from "./respond.ts";

/** `verifyAuth` of @supabase/server/core, as far as it is used: signature, expiry, audience and issuer. */
export type VerifyAuth = (
  request: Request,
  options: {
    auth: "user";
    audience: string;
    issuer: string[];
    env: { url: string };
  },
) => Promise<{
  data: { jwtClaims: Record<string, unknown> | null } | null;
  error: { status: number; message: string; code?: string } | null;
}>;

/** → the user's id. Errors: 401 for whoever is not signed in, 503 when no token could be verified at all. */
export type Identify = (request: Request) => Promise<string>;

/** `env` reads BILLING_JWT_ISSUER (one or more, where tokens name another address of Auth than SUPABASE_URL's: a
 * custom domain, the CLI's own stack) and SUPABASE_URL. The keys are SUPABASE_JWKS, which @supabase/server reads. */
export function identifier(
  verify: VerifyAuth,
  env: (name: string) => string | undefined,
): Identify {
  const url = env("SUPABASE_URL") || "http://127.0.0.1";
  const named = (env("BILLING_JWT_ISSUER") ?? "").split(/[\s,]+/).filter(
    Boolean,
  );
  const issuer = named.length > 0
    ? named
    : [`${url.replace(/\/+$/, "")}/auth/v1`];
  // Not `withSupabase`: it makes two HTTP clients that need keys of the project, for one statement in SQL.
  const jwks = env("SUPABASE_JWKS");
  return async (request) => {
    // With a set of no keys the verifier would blame the token.
    if (jwks !== undefined && !hasKeys(jwks)) {
      throw unverifiable(new Error("SUPABASE_JWKS has no keys."));
    }
    const { data, error } = await verify(request, {
      auth: "user",
      audience: "authenticated",
      issuer,
      env: { url },
    });
    if (error && error.status >= 500) throw unverifiable(error);
    const { sub, role, exp, is_anonymous } = data?.jwtClaims ?? {};
    // The verifier lets a token without an expiry pass. An anonymous user cannot sign in again, and would lose what they
    // pay for.
    if (
      error || typeof sub !== "string" || !UUID.test(sub) ||
      role !== "authenticated" || typeof exp !== "number" ||
      is_anonymous === true
    ) {
      throw new HttpError(
        401,
        "unauthorized",
        "Send the access token of a signed-in user: Authorization: Bearer …",
        { headers: { "www-authenticate": "Bearer" } },
      );
    }
    return sub;
  };
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** What cannot be read is the verifier's to refuse. */
function hasKeys(jwks: string): boolean {
  if (jwks.trim() === "") return false;
  try {
    const { keys } = JSON.parse(jwks);
    return !Array.isArray(keys) || keys.length > 0;
  } catch {
    return true;
  }
}

function unverifiable(cause: unknown): HttpError {
  return new HttpError(
    503,
    "auth_not_configured",
    "Tokens cannot be verified: SUPABASE_JWKS is missing or cannot be read.",
    { cause },
  );
}
