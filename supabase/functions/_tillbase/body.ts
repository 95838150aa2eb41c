/** A request → its body as text: never more than a limit, never for longer than a deadline, never silently repaired. */

import { HttpError } from "./respond.ts";

const DEADLINE_MS = 10_000;

// A decoder that repairs (U+FFFD for bad bytes, BOM taken off) would change what the sender signed.
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Errors: 413 over `limitBytes`, 408 where it takes too long, 400 for bytes that are not UTF-8, or when the sender
 * leaves before the end. */
export async function readText(
  request: Request,
  limitBytes: number,
  deadlineMs = DEADLINE_MS,
): Promise<string> {
  const declared = request.headers.get("content-length");
  if (declared !== null && Number(declared) > limitBytes) {
    throw tooLarge(limitBytes);
  }
  const bytes = await readBytes(request.body, limitBytes, deadlineMs).catch(
    (error) => {
      throw error instanceof HttpError
        ? error
        : new HttpError(400, "body_incomplete", "The body ended too early.");
    },
  );
  try {
    return utf8.decode(bytes);
  } catch {
    throw new HttpError(400, "body_not_utf8", "The body is not valid UTF-8.");
  }
}

/** Counts bytes as they come, because an unsigned request may declare a length that it never sends, and
 * `arrayBuffer()` would make room for it. */
async function readBytes(
  stream: ReadableStream<Uint8Array> | null,
  limitBytes: number,
  deadlineMs: number,
): Promise<Uint8Array> {
  if (stream === null) return new Uint8Array();
  const reader = stream.getReader();
  let isLate = false;
  const timer = setTimeout(() => {
    isLate = true;
    leave(reader);
  }, deadlineMs);
  const chunks: Uint8Array[] = [];
  let size = 0;
  try {
    for (
      let part = await reader.read();
      !part.done;
      part = await reader.read()
    ) {
      size += part.value.byteLength;
      if (size > limitBytes) throw tooLarge(limitBytes);
      chunks.push(part.value);
    }
  } finally {
    clearTimeout(timer);
    leave(reader);
  }
  if (isLate) throw tooSlow(deadlineMs);
  return chunks.length === 1 ? chunks[0] : joined(chunks, size);
}

function joined(chunks: Uint8Array[], size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  let offset = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, offset);
    offset += chunk.byteLength;
  }
  return bytes;
}

/** Ends a read that waits, too; what still comes is for nobody. */
function leave(reader: ReadableStreamDefaultReader<Uint8Array>): void {
  reader.cancel().catch(() => {});
}

function tooLarge(limitBytes: number): HttpError {
  return new HttpError(
    413,
    "body_too_large",
    `The body is larger than ${limitBytes} bytes.`,
  );
}

function tooSlow(deadlineMs: number): HttpError {
  return new HttpError(
    408,
    "body_too_slow",
    `The body took longer than ${deadlineMs} ms. Send it again.`,
  );
}
