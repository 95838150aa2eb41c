/** A request's access token → the id of the user whom Supabase Auth issued it to. */

import {
  createLocalJWKSet,
  decodeProtectedHeader,
  importJWK,
  type JSONWebKeySet,
  type JWTPayload,
  jwtVerify,
} from "jose";
import { HttpError } from "./respond.ts";

/** → the user's id. Errors: 401 without a signed-in user, 503 if no token can be verified at all. */
export type Identify = (request: Request) => Promise<string>;

/** The signature, expiry, audience and issuer of a token → its claims. */
type Verify = (token: string) => Promise<JWTPayload>;

/** `env` reads SUPABASE_JWKS (the project's keys), BILLING_JWT_ISSUER (one or more, where tokens name another address
 * of Auth than SUPABASE_URL's: a custom domain, the CLI's own stack) and SUPABASE_URL. */
export function identifier(
  env: (name: string) => string | undefined,
): Identify {
  // Not `@supabase/server`, which brings ten packages and two HTTP clients along for one statement in SQL.
  const verify = verifier(env("SUPABASE_JWKS"), issuers(env));
  return async (request) => {
    const token = bearer(request);
    const claims = token === null ? null : await (await verify)(token);
    const { sub, role, is_anonymous } = claims ?? {};
    // An anonymous user cannot sign in again, and would lose what they pay for.
    if (
      typeof sub !== "string" || !UUID.test(sub) ||
      role !== "authenticated" || is_anonymous === true
    ) {
      throw unauthorized();
    }
    return sub;
  };
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

function bearer(request: Request): string | null {
  const header = request.headers.get("authorization") ?? "";
  return /^Bearer +(\S+)$/i.exec(header)?.[1] ?? null;
}

function issuers(env: (name: string) => string | undefined): string[] {
  const url = env("SUPABASE_URL") || "http://127.0.0.1";
  const named = (env("BILLING_JWT_ISSUER") ?? "").split(/[\s,]+/).filter(
    Boolean,
  );
  return named.length > 0 ? named : [`${url.replace(/\/+$/, "")}/auth/v1`];
}

/** Read once; an error of the keys fails every request. */
async function verifier(
  jwks: string | undefined,
  issuer: string[],
): Promise<Verify> {
  const options = {
    issuer,
    audience: "authenticated",
    requiredClaims: ["exp"],
  };
  const keys = await keySet(jwks).catch((error) => error);
  return async (token) => {
    if (keys instanceof Error) throw unverifiable(keys);
    try {
      // If a key could be used as another kind, anybody could sign with the public key.
      const isShared = decodeProtectedHeader(token).alg === "HS256";
      if (isShared && keys.shared === undefined) throw unauthorized();
      const { payload } = isShared
        ? await jwtVerify(token, keys.shared, {
          ...options,
          algorithms: ["HS256"],
        })
        : await jwtVerify(token, keys.public, {
          ...options,
          algorithms: ["ES256", "RS256"],
        });
      return payload;
    } catch {
      throw unauthorized();
    }
  };
}

/** Keys of a project: public ones, and the shared secret of older projects. */
async function keySet(jwks: string | undefined) {
  const { keys } = JSON.parse(jwks ?? "") as JSONWebKeySet;
  if (!Array.isArray(keys) || keys.length === 0) {
    throw new Error("SUPABASE_JWKS has no keys.");
  }
  const shared = keys.find(({ kty }) => kty === "oct");
  return {
    public: createLocalJWKSet({
      keys: keys.filter(({ kty }) => kty !== "oct"),
    }),
    shared: shared && await importJWK(shared, "HS256"),
  };
}

function unauthorized(): HttpError {
  return new HttpError(
    401,
    "unauthorized",
    "Send the access token of a signed-in user: Authorization: Bearer …",
    { headers: { "www-authenticate": "Bearer" } },
  );
}

function unverifiable(cause: unknown): HttpError {
  return new HttpError(
    503,
    "auth_not_configured",
    "Tokens cannot be verified: SUPABASE_JWKS is missing or not valid.",
    { cause },
  );
}
