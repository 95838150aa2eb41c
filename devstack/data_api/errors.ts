/** A database error that lite does not know → one that it answers as PostgREST does: our own SQLSTATEs above all. */

/** What the driver throws. */
export interface DatabaseError {
  code?: unknown;
  message?: string;
  detail?: string;
  hint?: string;
}

// lite has answers of its own for these; everything else would be a 500 of code SUP.
const KNOWN = /^(21|22|42|53|55|PT|PGRST)|^(23502|23503|23505|25006)$/;
const FORBIDDEN = ["0L", "0P", "28"];
const FAILURES = "09 25 2D 38 39 3B 40 54 57 58 F0 HV P0 XX".split(" ");

/** The same error, or one that says status and body, by way of PostgREST's `raise sqlstate 'PGRST'`. */
export function answerable(error: DatabaseError): DatabaseError {
  const { code, message, detail, hint } = error;
  if (typeof code !== "string" || !/^[0-9A-Z]{5}$/.test(code)) return error;
  if (KNOWN.test(code)) return error;
  const body = { code, message, details: detail ?? null, hint: hint ?? null };
  return {
    code: "PGRST",
    message: JSON.stringify(body),
    detail: JSON.stringify({ status: statusOf(code), headers: {} }),
  };
}

/** The table of https://docs.postgrest.org/en/stable/references/errors.html, as far as lite leaves it to us. */
function statusOf(code: string): number {
  const group = code.slice(0, 2);
  if (code === "P0001") return 400;
  if (code === "57P01" || group === "08") return 503;
  if (FORBIDDEN.includes(group)) return 403;
  return FAILURES.includes(group) ? 500 : 400;
}
