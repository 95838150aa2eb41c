/** A browser's request → its preflight answered, its method checked, its answer readable for the page that asked. */

import { HttpError } from "./respond.ts";

// Any origin: what a request may do is in its token, which no page has but the one that the user signed in to.
// The headers are those that supabase-js sends.
const CORS = {
  "access-control-allow-origin": "*",
  "access-control-allow-headers":
    "authorization, x-client-info, apikey, content-type, x-retry-count, traceparent, tracestate, baggage",
  "access-control-expose-headers": "retry-after",
  "access-control-max-age": "86400",
};

type Answer = () => Promise<Response>;
type Refuse = (error: unknown) => Response;

/** Runs `answer` for a POST. `refused` makes the response of what it throws, and of other methods. */
export function answerPost(
  request: Request,
  answer: Answer,
  refused: Refuse,
): Promise<Response> {
  return answerOnly("POST", request, answer, refused);
}

/** The same for a GET. */
export function answerGet(
  request: Request,
  answer: Answer,
  refused: Refuse,
): Promise<Response> {
  return answerOnly("GET", request, answer, refused);
}

async function answerOnly(
  method: "GET" | "POST",
  request: Request,
  answer: Answer,
  refused: Refuse,
): Promise<Response> {
  const allow = `${method}, OPTIONS`;
  const cors = { ...CORS, "access-control-allow-methods": allow };
  if (request.method === "OPTIONS") {
    return new Response(null, { status: 204, headers: cors });
  }
  const response =
    await (request.method === method ? answer().catch(refused) : refused(
      new HttpError(405, "method_not_allowed", `Only ${method} is accepted.`, {
        headers: { allow },
      }),
    ));
  for (const [name, value] of Object.entries(cors)) {
    response.headers.set(name, value);
  }
  response.headers.set("cache-control", "no-store");
  return response;
}
