/** The body of a sign-up or sign-in → address and password that will do. */

import { AuthError } from "./auth_error.ts";
import type { Json } from "./users.ts";

const PASSWORD_MIN = 6;
const PASSWORD_MAX_BYTES = 72; // bcrypt looks no further
/** What JSON may say and Postgres's jsonb cannot. */
const UNSTORABLE = /\\u(0000|d[89a-f])/i;
const EMAIL = /^[^\s@\0]{1,64}@[^\s@.\0]+(\.[^\s@.\0]+)+$/;

export function emailOf(body: Json): string {
  const email = String(body.email ?? "").trim().toLowerCase();
  if (!EMAIL.test(email) || email.length > 255) {
    throw new AuthError(
      400,
      "validation_failed",
      "Unable to validate email address: invalid format",
    );
  }
  return email;
}

export function passwordOf(body: Json): string {
  const { password } = body;
  if (typeof password !== "string" || password === "") {
    throw new AuthError(
      400,
      "validation_failed",
      "Signup requires a valid password",
    );
  }
  if (new TextEncoder().encode(password).length > PASSWORD_MAX_BYTES) {
    throw new AuthError(
      400,
      "validation_failed",
      `Password cannot be longer than ${PASSWORD_MAX_BYTES} characters`,
    );
  }
  if (password.length < PASSWORD_MIN) {
    throw new AuthError(
      422,
      "weak_password",
      `Password should be at least ${PASSWORD_MIN} characters.`,
      { weak_password: { reasons: ["length"] } },
    );
  }
  return password;
}

/** What a client notes of a new user. */
export function dataOf(body: Json): Json {
  const data = body.data ?? {};
  if (
    typeof data !== "object" || Array.isArray(data) ||
    UNSTORABLE.test(JSON.stringify(data))
  ) {
    throw new AuthError(400, "bad_json", "data is no object to be stored");
  }
  return data as Json;
}

export async function bodyOf(request: Request): Promise<Json> {
  const body = await request.json().catch(() => null);
  if (typeof body === "object" && body !== null && !Array.isArray(body)) {
    return body;
  }
  throw new AuthError(
    400,
    "bad_json",
    "Could not parse request body as JSON: it is no object",
  );
}
