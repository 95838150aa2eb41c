/** SUPABASE_URL as a project's own gateway serves it: /rest/v1 by role and claims, /functions/v1 as it comes. */

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
  /** The Data API, once it is loaded; rejects when it cannot be. */
  dataApi: () => Promise<Serve>;
  functionsUrl: Promise<string>;
}

const REST = "/rest/v1/";
const FUNCTIONS = "/functions/v1/";
const JWKS = "/auth/v1/.well-known/jwks.json";
const ROLES = ["anon", "authenticated", "service_role"];
const CORS = {
  "Access-Control-Allow-Origin": "*",
  "Access-Control-Expose-Headers":
    "Content-Encoding, Content-Location, Content-Range, Content-Type, Date, Location, Server, Range-Unit",
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
  if (!url.pathname.startsWith(REST)) {
    return refusal(
      404,
      "not_found",
      "The local stack has /rest/v1 and /functions/v1 here; `till token` signs in.",
    );
  }
  if (request.method === "OPTIONS") return preflight(request);
  return withCors(await fromDatabase(request, url, dependencies));
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
  let serve: Serve;
  try {
    serve = await dependencies.dataApi();
  } catch (error) {
    return refusal(
      503,
      "PGRST000",
      `The Data API cannot be loaded: ${oneLine(error)}`,
    );
  }
  return await serve(request, { ...claims, role: String(role) });
}

/** The API key lets in and gives a role; a user's token beside it says who it is. */
async function callersClaims(
  request: Request,
  url: URL,
  { publishableKey, secretKey, trust }: Dependencies,
): Promise<Claims | Response> {
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
