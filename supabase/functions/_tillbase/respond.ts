/** A refusal or a failure → the JSON response and the one log line that every function of ours gives. */

/** Ends a request with `{"error": {"code", "message"}}`; both are for the caller and name no secret. */
export class HttpError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly options: { headers?: Record<string, string>; cause?: unknown } =
      {},
  ) {
    super(message, { cause: options.cause });
  }
}

/** What was thrown → its response. Failures of ours (5xx) are logged, refusals (4xx) are not: the platform
 * keeps a hundred lines in ten seconds, and anybody can send nonsense faster than that. */
export function refuse(functionName: string, error: unknown): Response {
  const refusal = error instanceof HttpError ? error : new HttpError(
    500,
    "internal_error",
    "The request failed; the function's log says why.",
    { cause: error },
  );
  const { status, code, message, options } = refusal;
  if (status >= 500) {
    const reason = options.cause === undefined
      ? message
      : describe(options.cause);
    console.error(
      JSON.stringify({
        level: "error",
        function: functionName,
        status,
        code,
        reason,
      }),
    );
  }
  return Response.json({ error: { code, message } }, {
    status,
    headers: options.headers,
  });
}

/** An error in one line. Messages of these SQLSTATE classes can quote data, so only the code is shown. Stripe's and the
 * driver's can quote an address or a key. */
const ADDRESS = /[^\s"'<>(),;=]+@[\w-]+(\.[\w-]+)+/g;
const KEY = /\b([sr]k_(test|live)_|whsec_|sb_secret_)\w+/g;
const QUOTES_DATA = /^(21|22|23|P0)/;
const MAX_REASON_LENGTH = 300;

function describe(cause: unknown): string {
  const { name, code, message } = cause as {
    name?: unknown;
    code?: unknown;
    message?: unknown;
  };
  const text = typeof code === "string" && QUOTES_DATA.test(code)
    ? ""
    : message;
  return [name, code, text].filter(Boolean).join(" ")
    .replace(ADDRESS, "[address]").replace(KEY, "[secret]")
    .slice(0, MAX_REASON_LENGTH);
}
