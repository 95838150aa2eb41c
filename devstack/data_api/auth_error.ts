/** A refused request → its answer as Supabase Auth words it. */

const API_VERSION = "2024-01-01";

/** What Supabase Auth calls the mistake, beside what it says of it. */
export class AuthError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly more: Record<string, unknown> = {},
  ) {
    super(message);
  }
}

/** Clients of today name the version in which a code is a word; others get the older body. */
export function refusal(request: Request, error: AuthError): Response {
  const { status, code, message, more } = error;
  if ((request.headers.get("X-Supabase-Api-Version") ?? "") >= API_VERSION) {
    return Response.json({ code, message, ...more }, {
      status,
      headers: { "X-Supabase-Api-Version": API_VERSION },
    });
  }
  return Response.json(
    { code: status, error_code: code, msg: message, ...more },
    { status },
  );
}
