/** http://127.0.0.1:PORT → the page, supabase-js for it, and where its Supabase project is. */

// deno run … server.ts PORT, with SUPABASE_URL and SUPABASE_PUBLISHABLE_KEY in the environment. On your own site any
// server of static files will do: it needs page/, supabase.js and a config.json.

import supabaseJs from "@supabase/supabase-js/dist/umd/supabase.js" with {
  type: "text",
};

const PAGE = new URL("./page/", import.meta.url);
const TYPES: Record<string, string> = {
  html: "text/html; charset=utf-8",
  css: "text/css; charset=utf-8",
  js: "text/javascript; charset=utf-8",
  json: "application/json",
};

const url = setting("SUPABASE_URL");
const project = {
  url,
  publishableKey: setting("SUPABASE_PUBLISHABLE_KEY"),
};
// The page's own scripts and its own project, and nothing else: what a plan's name may hold never runs.
const policy = [
  "default-src 'self'",
  `connect-src 'self' ${url} ${url.replace(/^http/, "ws")}`,
  "img-src 'self' data:",
  "frame-ancestors 'none'",
].join("; ");

const files = new Map<string, string>([
  ["/supabase.js", supabaseJs],
  ["/config.json", JSON.stringify(project)],
]);
for await (const { name } of Deno.readDir(PAGE)) {
  files.set(`/${name}`, await Deno.readTextFile(new URL(name, PAGE)));
}

Deno.serve({
  hostname: "127.0.0.1",
  port: Number(Deno.args[0]),
  onListen: ({ port }) => console.log(JSON.stringify({ listening: port })),
}, (request) => {
  const { pathname } = new URL(request.url);
  const path = pathname === "/" ? "/index.html" : pathname;
  const text = files.get(path);
  if (text === undefined) return new Response("not found", { status: 404 });
  return new Response(text, {
    headers: {
      "content-type": TYPES[path.split(".").at(-1)!] ?? "text/plain",
      "content-security-policy": policy,
      "cache-control": "no-cache",
    },
  });
});

// Started by another program, it ends with that one, however that one ends.
if (Deno.args.includes("--attended")) {
  for await (const _ of Deno.stdin.readable);
  Deno.exit(0);
}

function setting(name: string): string {
  const value = Deno.env.get(name);
  if (!value) throw new Error(`${name} is not set`);
  return value;
}
