/** http://127.0.0.1:PORT/functions/v1/<name> → the edge function of that name, as Supabase's gateway calls it. */

// deno run … functions.ts PORT {"name", "url", "verifyJwt"}…
// Ends when its standard input closes, so that it cannot outlive the process that started it.

import { trustedKeys, verifiedClaims } from "./data_api/tokens.ts";

type Handler = (
  request: Request,
  info?: unknown,
) => Response | Promise<Response>;
type Loaded = { handler: Handler } | { failure: string };

const PREFIX = "/functions/v1/";
const HEALTH = "_health";

interface Served {
  name: string;
  url: string;
  verifyJwt: boolean;
}

const [port, ...served] = Deno.args;
const functions: Served[] = served.map((text) => JSON.parse(text));
const guarded = new Set(
  functions.filter(({ verifyJwt }) => verifyJwt).map(({ name }) => name),
);
const listen = Deno.serve;
const loaded = new Map<string, Loaded>();
let handed: Handler | undefined;

// A function either exports `{ fetch }` or calls Deno.serve; the second is caught instead of opening a port.
Object.defineProperty(Deno, "serve", {
  value: (...args: unknown[]) => {
    const options = args.find((arg) => typeof arg === "object") as {
      handler?: Handler;
    } | undefined;
    handed = (args.find((arg) =>
      typeof arg === "function"
    ) ?? options?.handler) as Handler;
    return {
      finished: new Promise(() => {}),
      shutdown: () => Promise.resolve(),
    };
  },
});

// A promise that one function forgot must not take the others down.
addEventListener("unhandledrejection", (event) => {
  event.preventDefault();
  console.error("unhandled rejection:", event.reason);
});

try {
  listen(
    { hostname: "127.0.0.1", port: Number(port), onListen: announce },
    answer,
  );
} catch (error) {
  console.error(
    `port ${port} cannot be listened on: ${(error as Error).message}`,
  );
  Deno.exit(1);
}
const loading = loadAll();
for await (const _ of Deno.stdin.readable);
Deno.exit(0);

function announce(address: Deno.NetAddr): void {
  console.log(JSON.stringify({ listening: address.port }));
}

/** One after the other, because a call of Deno.serve does not tell which function it belongs to. */
async function loadAll(): Promise<void> {
  for (const { name, url } of functions) {
    loaded.set(name, await load(name, url));
  }
}

async function load(name: string, url: string): Promise<Loaded> {
  handed = undefined;
  try {
    const { default: exported } = await import(url);
    const handler = exported?.fetch?.bind(exported) ?? handed;
    if (handler) return { handler };
    throw new Error("it neither exports { fetch } nor calls Deno.serve");
  } catch (error) {
    console.error(`${name} cannot be loaded:`, error);
    return { failure: String(error) };
  }
}

async function answer(request: Request): Promise<Response> {
  await loading;
  const path = request.url.slice(request.url.indexOf("/", "http://".length));
  if (!path.startsWith(PREFIX)) {
    return refusal(404, "not_found", `Functions are under ${PREFIX}.`);
  }
  const [name] = path.slice(PREFIX.length).split(/[/?#]/, 1);
  if (name === HEALTH) {
    return Response.json(
      Object.fromEntries(functions.map(({ name }) => [name, failureOf(name)])),
    );
  }
  const found = loaded.get(name);
  if (!found) {
    return refusal(404, "not_found", "There is no function of this name.");
  }
  if ("failure" in found) {
    return refusal(
      503,
      "boot_error",
      "The function cannot be loaded; the log says why.",
    );
  }
  if (guarded.has(name) && request.method !== "OPTIONS") {
    const why = await distrust(request);
    if (why) return Response.json({ code: 401, message: why }, { status: 401 });
  }
  try {
    return await found.handler(asTheGatewayDoes(request));
  } catch (error) {
    console.error(`${name} threw:`, error);
    return refusal(
      500,
      "internal_error",
      "The function threw; the log says what.",
    );
  }
}

/** As on Supabase, a function sees its own name as the first part of the path. Shadowing the getter keeps
 * the request itself: a new one would copy the body through a stream. */
function asTheGatewayDoes(request: Request): Request {
  return Object.defineProperty(request, "url", {
    value: request.url.replace(PREFIX, "/"),
  });
}

/** As the gateway checks a function with `verify_jwt`: why the request's token is refused, or null. */
async function distrust(request: Request): Promise<string | null> {
  const header = request.headers.get("authorization");
  if (!header) return "Missing authorization header";
  try {
    const trust = {
      keys: await trustedKeys(Deno.env.get("SUPABASE_JWKS") ?? ""),
      audience: "authenticated",
      issuer: Deno.env.get("BILLING_JWT_ISSUER") ?? "",
    };
    const token = header.replace(/^Bearer +/i, "");
    await verifiedClaims(token, trust, Date.now() / 1000);
    return null;
  } catch {
    return "Invalid JWT";
  }
}

function failureOf(name: string): string | null {
  const found = loaded.get(name);
  return found && "failure" in found ? found.failure : null;
}

function refusal(status: number, code: string, message: string): Response {
  return Response.json({ error: { code, message } }, { status });
}
