/** A file of events, one JSON text a line → the rows of @supabase/stripe-sync-engine, so many events in flight at once. */

// node engine.mjs POSTGRES_URL FILE CONNECTIONS [migrate]
// Says `ready` when the events are read, waits for a line, and says `done` at the end. Nothing is read from Stripe.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

// Its ES module does not find its migrations.
const { runMigrations, StripeSync } = createRequire(import.meta.url)(
  "@supabase/stripe-sync-engine",
);

const [url, file, connections, migrate] = process.argv.slice(2);
if (migrate) {
  await runMigrations({ databaseUrl: url, schema: "stripe", logger: console });
}
const sync = new StripeSync({
  stripeSecretKey: "sk_test_bench",
  stripeWebhookSecret: "whsec_bench",
  backfillRelatedEntities: false,
  autoExpandLists: false,
  poolConfig: { connectionString: url, max: Number(connections) },
});
const texts = readFileSync(file, "utf8").trimEnd().split("\n");
await Promise.all(
  Array.from(
    { length: Number(connections) },
    () => sync.postgresClient.query("select 1"),
  ),
);
console.log("ready");
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
await lines.next();
let next = 0;
async function work() {
  while (next < texts.length) await sync.processEvent(JSON.parse(texts[next++]));
}
await Promise.all(Array.from({ length: Number(connections) }, work));
console.log("done");
process.exit(0);
