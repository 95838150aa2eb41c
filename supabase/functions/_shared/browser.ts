/** A browser's request → its preflight answered, its method checked, its answer readable for the page that asked. */

import { HttpError } from "./respond.ts";

// Any origin: what a request may do is in its token, which no page has but the one that the user signed in to.
// The headers are those that supabase-js sends.
const CORS = {
  "access-control-allow-origin": "*",
  "access-control-allow-headers":
    "authorization, x-client-info, apikey, content-type, x-retry-count, traceparent, tracestate, baggage",
  "access-control-allow-methods": "POST, OPTIONS",
  "access-control-expose-headers": "retry-after",
  "access-control-max-age": "86400",
};

/** Runs `answer` for a POST. `refused` makes the response of what it throws, and of other methods. */
export async function answerPost(
  request: Request,
  answer: () => Promise<Response>,
  refused: (error: unknown) => Response,
): Promise<Response> {
  if (request.method === "OPTIONS") {
    return new Response(null, { status: 204, headers: CORS });
  }
  const response = await onlyPost(request, answer).catch(refused);
  for (const [name, value] of Object.entries(CORS)) {
    response.headers.set(name, value);
  }
  response.headers.set("cache-control", "no-store");
  return response;
}

async function onlyPost(
  request: Request,
  answer: () => Promise<Response>,
): Promise<Response> {
  if (request.method === "POST") return await answer();
  throw new HttpError(405, "method_not_allowed", "Only POST is accepted.", {
    headers: { allow: "POST, OPTIONS" },
  });
}
