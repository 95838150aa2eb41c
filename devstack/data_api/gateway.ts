/** SUPABASE_URL as a project's own gateway serves it: /rest/v1 by role and claims, /auth/v1 with an API key,
 * /functions/v1 as it comes. */

import type { Auth } from "./auth.ts";
import { declineChannels } from "./realtime.ts";
import type { Serve } from "./lite.ts";
import {
  type Claims,
  TokenRefused,
  type Trust,
  verifiedClaims,
} from "./tokens.ts";

export interface Dependencies {
  publishableKey: string;
  secretKey: string;
  trust: Trust;
  jwks: string;
  /** The Data API and the sign-in, once they are loaded; rejects when they cannot be. */
  loaded: () => Promise<{ serve: Serve; auth: Auth }>;
  functionsUrl: Promise<string>;
}

const REST = "/rest/v1/";
const AUTH = "/auth/v1";
const FUNCTIONS = "/functions/v1/";
const JWKS = "/auth/v1/.well-known/jwks.json";
const REALTIME = "/realtime/v1/websocket";
const ROLES = ["anon", "authenticated", "service_role"];
const CORS = {
  "Access-Control-Allow-Origin": "*",
  "Access-Control-Expose-Headers":
    "Content-Encoding, Content-Location, Content-Range, Content-Type, Date, Location, Server, Range-Unit, X-Supabase-Api-Version",
};

/** Answer a request of any path. */
export async function answer(
  request: Request,
  dependencies: Dependencies,
): Promise<Response> {
  const url = new URL(request.url);
  if (url.pathname.startsWith(FUNCTIONS)) {
    return await fromFunction(request, url, await dependencies.functionsUrl);
  }
  if (url.pathname === JWKS) {
    const headers = { ...CORS, "Content-Type": "application/json" };
    return new Response(dependencies.jwks, { headers });
  }
  if (url.pathname === REALTIME) return declineChannels(request, url);
  const isAuth = url.pathname.startsWith(`${AUTH}/`);
  if (!isAuth && !url.pathname.startsWith(REST)) {
    return refusal(
      404,
      "not_found",
      "The local stack has /rest/v1, /auth/v1 and /functions/v1 here.",
    );
  }
  if (request.method === "OPTIONS") return preflight(request);
  const answered = isAuth ? fromAuth : fromDatabase;
  return withCors(await answered(request, url, dependencies));
}

/** What happened, without the stack. */
export function oneLine(error: unknown): string {
  return String(error).split("\n", 1)[0];
}

async function fromDatabase(
  request: Request,
  url: URL,
  dependencies: Dependencies,
): Promise<Response> {
  const claims = await callersClaims(request, url, dependencies);
  if (claims instanceof Response) return claims;
  const role = claims.role ?? "anon";
  if (!ROLES.includes(String(role))) {
    return refusal(403, "42501", `permission denied to set role "${role}"`);
  }
  const loaded = await loadedOf(dependencies);
  if (loaded instanceof Response) return loaded;
  return await loaded.serve(request, { ...claims, role: String(role) });
}

async function fromAuth(
  request: Request,
  url: URL,
  dependencies: Dependencies,
): Promise<Response> {
  const apiKey = checkedKey(request, url, dependencies);
  if (apiKey instanceof Response) return apiKey;
  const loaded = await loadedOf(dependencies);
  if (loaded instanceof Response) return loaded;
  return await loaded.auth(request, url.pathname.slice(AUTH.length));
}

async function loadedOf({ loaded }: Dependencies) {
  try {
    return await loaded();
  } catch (error) {
    const message = `The Data API cannot be loaded: ${oneLine(error)}`;
    return refusal(503, "PGRST000", message);
  }
}

/** The API key lets in and gives a role; a user's token beside it says who it is. */
async function callersClaims(
  request: Request,
  url: URL,
  dependencies: Dependencies,
): Promise<Claims | Response> {
  const { secretKey, trust } = dependencies;
  const apiKey = checkedKey(request, url, dependencies);
  if (apiKey instanceof Response) return apiKey;
  const bearer = request.headers.get("Authorization")?.match(/^bearer +(.*)$/i)
    ?.[1].trim();
  // A client without a session sends its key there too.
  if (!bearer || bearer === apiKey) {
    return { role: apiKey === secretKey ? "service_role" : "anon" };
  }
  try {
    return await verifiedClaims(bearer, trust, Date.now() / 1000);
  } catch (error) {
    if (!(error instanceof TokenRefused)) throw error;
    return refusal(401, error.code, error.message, {
      "WWW-Authenticate":
        `Bearer error="invalid_token", error_description="${error.message}"`,
    });
  }
}

/** The API key of a request, which is one of ours. */
function checkedKey(
  request: Request,
  url: URL,
  { publishableKey, secretKey }: Dependencies,
): string | Response {
  const apiKey = request.headers.get("apikey") ??
    url.searchParams.get("apikey");
  if (!apiKey) {
    return gatewayRefusal(
      "No API key found in request",
      "No `apikey` request header or url param was found.",
    );
  }
  if (apiKey !== publishableKey && apiKey !== secretKey) {
    return gatewayRefusal(
      "Invalid API key",
      "Take SUPABASE_PUBLISHABLE_KEY or SUPABASE_SECRET_KEY from the env file of `till dev`.",
    );
  }
  return apiKey;
}

async function fromFunction(
  request: Request,
  url: URL,
  functionsUrl: string,
): Promise<Response> {
  const path = url.pathname.slice(FUNCTIONS.length) + url.search;
  const { method, headers, body } = request;
  try {
    return await fetch(`${functionsUrl}/${path}`, {
      method,
      headers,
      body,
      redirect: "manual",
    });
  } catch (error) {
    return refusal(
      502,
      "bad_gateway",
      `The edge functions do not answer: ${oneLine(error)}`,
    );
  }
}

function preflight(request: Request): Response {
  const asked = request.headers.get("Access-Control-Request-Headers");
  return new Response(null, {
    status: 204,
    headers: {
      ...CORS,
      "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, PATCH, DELETE",
      "Access-Control-Allow-Headers": asked ?? "*",
      "Access-Control-Max-Age": "3600",
    },
  });
}

function withCors(response: Response): Response {
  const headers = new Headers(response.headers);
  for (const [name, value] of Object.entries(CORS)) headers.set(name, value);
  return new Response(response.body, { status: response.status, headers });
}

/** As PostgREST says no. */
function refusal(
  status: number,
  code: string,
  message: string,
  headers: Record<string, string> = {},
): Response {
  return Response.json({ code, details: null, hint: null, message }, {
    status,
    headers,
  });
}

/** As Supabase's gateway, before PostgREST, says no. */
function gatewayRefusal(message: string, hint: string): Response {
  return Response.json({ message, hint }, { status: 401 });
}
