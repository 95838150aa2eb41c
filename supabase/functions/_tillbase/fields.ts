/** A request's JSON body → its fields, by type only: what they mean is judged in SQL. */

import { readText } from "./body.ts";
import { HttpError } from "./respond.ts";

const MAX_BODY_BYTES = 16 * 1024;
/** Longer than any id, lookup key or URL that is taken; Postgres and Stripe could not store U+0000 or half a pair. */
const TEXT = /^[^\0]{1,4096}$/u;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

export class Fields {
  constructor(private readonly values: Record<string, unknown>) {}

  /** Errors: 400 when the value is there and is no text. */
  text(name: string): string | null {
    return this.#read(
      name,
      "a text",
      (value) =>
        typeof value === "string" && TEXT.test(value) && value.isWellFormed(),
    );
  }

  uuid(name: string): string | null {
    return this.#read(
      name,
      "a UUID",
      (value) => typeof value === "string" && UUID.test(value),
    );
  }

  number(name: string): number | null {
    return this.#read(name, "a number", (value) => Number.isFinite(value));
  }

  boolean(name: string): boolean | null {
    return this.#read(
      name,
      "true or false",
      (value) => typeof value === "boolean",
    );
  }

  #read<T>(
    name: string,
    kind: string,
    fits: (value: unknown) => boolean,
  ): T | null {
    const value = Object.hasOwn(this.values, name) ? this.values[name] : null;
    if (value === null || fits(value)) return value as T | null;
    throw new HttpError(400, "invalid_request", `${name} is not ${kind}.`);
  }
}

/** Errors: 413 when it is large, 400 when it is not a JSON object. An empty body has no fields. */
export async function readFields(request: Request): Promise<Fields> {
  const text = await readText(request, MAX_BODY_BYTES);
  const values = parse(text || "{}");
  if (
    typeof values === "object" && values !== null && !Array.isArray(values)
  ) {
    return new Fields(values as Record<string, unknown>);
  }
  throw new HttpError(
    400,
    "invalid_request",
    "The body is not a JSON object.",
  );
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
