/** /auth/v1 as Supabase Auth serves it, as far as signing in by password goes. For the local stack alone: it confirms
 * every address unseen, sends no mail and limits nothing. */

import bcrypt from "bcryptjs";
import { bodyOf, dataOf, emailOf, passwordOf } from "./auth_body.ts";
import { AuthError, refusal } from "./auth_error.ts";
import {
  type Claims,
  type Sign,
  TokenRefused,
  type Trust,
  verifiedClaims,
} from "./tokens.ts";
import type { Json, Scope, Session, User, Users } from "./users.ts";

const HASH_COST = 10;
const TOKEN_SECONDS = 3600;
const SCOPES = ["global", "local", "others"];

export interface Dependencies {
  users: Users;
  trust: Trust;
  sign: Sign;
}

/** Answers a request for a path below /auth/v1. */
export type Auth = (request: Request, path: string) => Promise<Response>;

export function authOf(dependencies: Dependencies): Auth {
  return async (request, path) => {
    try {
      return await answer(request, path, dependencies);
    } catch (error) {
      if (error instanceof AuthError) return refusal(request, error);
      console.error("auth:", error);
      return refusal(
        request,
        new AuthError(
          500,
          "unexpected_failure",
          "Unexpected failure; data-api.log says what.",
        ),
      );
    }
  };
}

async function answer(
  request: Request,
  path: string,
  dependencies: Dependencies,
): Promise<Response> {
  const grant = new URL(request.url).searchParams.get("grant_type");
  switch (`${request.method} ${path}`) {
    case "POST /signup":
      return await signUp(await bodyOf(request), dependencies);
    case "POST /token":
      if (grant === "password") {
        return await signIn(await bodyOf(request), dependencies);
      }
      if (grant === "refresh_token") {
        return await refresh(await bodyOf(request), dependencies);
      }
      throw new AuthError(400, "invalid_credentials", "unsupported_grant_type");
    case "GET /user":
      return Response.json(shown((await signedIn(request, dependencies)).user));
    case "POST /logout":
      return await signOut(request, dependencies);
    default:
      throw new AuthError(
        404,
        "not_found",
        "The local sign-in has POST signup, token and logout, and GET user.",
      );
  }
}

async function signUp(body: Json, dependencies: Dependencies) {
  const { users } = dependencies;
  if (body.phone) {
    throw new AuthError(
      400,
      "phone_provider_disabled",
      "Phone signups are disabled",
    );
  }
  if (!body.email && !body.password) {
    throw new AuthError(
      422,
      "anonymous_provider_disabled",
      "Anonymous sign-ins are disabled",
    );
  }
  const email = emailOf(body);
  const hash = await bcrypt.hash(passwordOf(body), HASH_COST);
  const user = await users.signUp(email, hash, dataOf(body));
  if (!user) {
    throw new AuthError(
      422,
      "user_already_exists",
      "User already registered",
    );
  }
  return await opened(await users.openSession(user.id), dependencies);
}

async function signIn(body: Json, dependencies: Dependencies) {
  const { users } = dependencies;
  const user = await users.byEmail(emailOf(body));
  const password = String(body.password ?? "");
  // A user of `till token` has no password, so none fits.
  const fits = user?.encrypted_password
    ? await bcrypt.compare(password, user.encrypted_password)
    : false;
  if (!user || !fits) {
    throw new AuthError(
      400,
      "invalid_credentials",
      "Invalid login credentials",
    );
  }
  if (user.is_banned) throw banned(400);
  return await opened(await users.openSession(user.id), dependencies);
}

async function refresh(body: Json, dependencies: Dependencies) {
  const { users } = dependencies;
  const session = await users.refresh(String(body.refresh_token ?? ""));
  if (session === "unknown") {
    throw new AuthError(
      400,
      "refresh_token_not_found",
      "Invalid Refresh Token: Refresh Token Not Found",
    );
  }
  if (session === "used") {
    throw new AuthError(
      400,
      "refresh_token_already_used",
      "Invalid Refresh Token: Already Used",
    );
  }
  const user = await users.byId(session.userId);
  if (!user) throw noUser();
  if (user.is_banned) throw banned(400);
  return await opened({ ...session, user }, dependencies);
}

async function signOut(request: Request, dependencies: Dependencies) {
  const { user, claims } = await signedIn(request, dependencies);
  const scope = new URL(request.url).searchParams.get("scope") ?? "global";
  if (!SCOPES.includes(scope)) {
    throw new AuthError(
      400,
      "validation_failed",
      `Unsupported logout scope "${scope}"`,
    );
  }
  const sessionId = String(claims.session_id);
  await dependencies.users.endSessions(user.id, sessionId, scope as Scope);
  return new Response(null, { status: 204 });
}

/** The user of the request's token. A token of `till token` names a session without a row: it has not ended. */
async function signedIn(
  request: Request,
  { users, trust }: Dependencies,
): Promise<{ user: User; claims: Claims }> {
  const token = request.headers.get("Authorization")?.match(/^bearer +(.+)$/i)
    ?.[1];
  if (!token) {
    throw new AuthError(
      401,
      "no_authorization",
      "This endpoint requires a valid Bearer token",
    );
  }
  let claims: Claims;
  try {
    claims = await verifiedClaims(token, trust, Date.now() / 1000);
  } catch (error) {
    if (!(error instanceof TokenRefused)) throw error;
    throw new AuthError(403, "bad_jwt", `invalid JWT: ${error.message}`);
  }
  const user = await users.byId(String(claims.sub));
  if (!user) throw noUser();
  if (user.is_banned) throw banned(403);
  if (await users.hasEnded(String(claims.session_id))) {
    throw new AuthError(
      403,
      "session_not_found",
      "Session from session_id claim in JWT does not exist",
    );
  }
  return { user, claims };
}

function banned(status: number): AuthError {
  return new AuthError(status, "user_banned", "User is banned");
}

function noUser(): AuthError {
  return new AuthError(
    403,
    "user_not_found",
    "User from sub claim in JWT does not exist",
  );
}

/** What a client keeps of a sign-in. */
async function opened(
  { id, refreshToken, user }: Session & { user: User },
  { sign, trust }: Dependencies,
): Promise<Response> {
  const now = Math.floor(Date.now() / 1000);
  const token = await sign({
    iss: trust.issuer,
    sub: user.id,
    aud: trust.audience,
    exp: now + TOKEN_SECONDS,
    iat: now,
    email: user.email,
    phone: "",
    app_metadata: user.raw_app_meta_data,
    user_metadata: user.raw_user_meta_data,
    role: user.role,
    aal: "aal1",
    amr: [{ method: "password", timestamp: now }],
    session_id: id,
    is_anonymous: false,
  });
  return Response.json({
    access_token: token,
    token_type: "bearer",
    expires_in: TOKEN_SECONDS,
    expires_at: now + TOKEN_SECONDS,
    refresh_token: refreshToken,
    user: shown(user),
  });
}

function shown(user: User): Json {
  const { id, email, created_at, updated_at } = user;
  const last_sign_in_at = user.last_sign_in_at ?? created_at;
  const seen = { last_sign_in_at, created_at, updated_at };
  return {
    id,
    aud: user.aud,
    role: user.role,
    email,
    phone: "",
    email_confirmed_at: user.email_confirmed_at,
    confirmed_at: user.email_confirmed_at,
    app_metadata: user.raw_app_meta_data,
    user_metadata: user.raw_user_meta_data,
    identities: [{
      identity_id: id,
      id,
      user_id: id,
      identity_data: { sub: id, email, email_verified: true },
      provider: "email",
      email,
      ...seen,
    }],
    is_anonymous: user.is_anonymous,
    ...seen,
  };
}
