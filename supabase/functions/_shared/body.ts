/** A request → its body as text: never more than a limit, never silently repaired. */

import { HttpError } from "./respond.ts";

// A decoder that repairs (U+FFFD for bad bytes, BOM taken off) would change what the sender signed.
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Errors: 413 over `limitBytes`, 400 for bytes that are not UTF-8, or when the sender leaves before the end. */
export async function readText(
  request: Request,
  limitBytes: number,
): Promise<string> {
  const bytes = await readBytes(request, limitBytes).catch((error) => {
    throw error instanceof HttpError
      ? error
      : new HttpError(400, "body_incomplete", "The body ended too early.");
  });
  try {
    return utf8.decode(bytes);
  } catch {
    throw new HttpError(400, "body_not_utf8", "The body is not valid UTF-8.");
  }
}

async function readBytes(
  request: Request,
  limitBytes: number,
): Promise<Uint8Array> {
  const declared = request.headers.get("content-length");
  if (declared !== null && Number(declared) > limitBytes) {
    throw tooLarge(limitBytes);
  }
  // The HTTP server never hands out more than the declared length, so the quick way is safe.
  if (declared !== null) return new Uint8Array(await request.arrayBuffer());
  return await readCounted(request.body, limitBytes);
}

/** Chunked bodies declare no length: they are counted as they come, and left at the limit. */
async function readCounted(
  stream: ReadableStream<Uint8Array> | null,
  limitBytes: number,
): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of stream ?? []) {
    size += chunk.byteLength;
    if (size > limitBytes) throw tooLarge(limitBytes);
    chunks.push(chunk);
  }
  const bytes = new Uint8Array(size);
  let offset = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, offset);
    offset += chunk.byteLength;
  }
  return bytes;
}

function tooLarge(limitBytes: number): HttpError {
  return new HttpError(
    413,
    "body_too_large",
    `The body is larger than ${limitBytes} bytes.`,
  );
}
