/** A role → single SQL statements run as it, which answer or fail within seconds. */

import postgres from "postgres";
import { HttpError } from "./respond.ts";
import { PostgresSocket, sslMode } from "./socket.ts";

/** The database cannot be asked just now; `cause` is for the log. */
export class DatabaseUnavailable extends HttpError {
  constructor(cause: unknown) {
    const message = "The database is unavailable. Try again.";
    const headers = { "retry-after": RETRY_AFTER_SECONDS };
    super(503, "database_unavailable", message, { headers, cause });
  }
}

const RETRY_AFTER_SECONDS = "5";

/** Every isolate has a pool of its own, and all of them share the server's max_connections. */
const DEFAULT_CONNECTIONS = 3;
const MAX_CONNECTIONS = 50;
const CONNECT_TIMEOUT_SECONDS = 3;
const STATEMENT_TIMEOUT_MS = 3_000;
const DEADLINE_MS = 4_500;
const IDLE_TIMEOUT_SECONDS = 20;
const MAX_LIFETIME_SECONDS = 600;

/** The connection broke under the statement. The next one is new, so one more try is worth its while. */
const CONNECTION_LOST = new Set([
  "CONNECTION_CLOSED",
  "CONNECTION_DESTROYED",
  "CONNECTION_ENDED",
  "ECONNRESET",
  "EPIPE",
  "57P01", // admin_shutdown
  "57P02", // crash_shutdown
]);

/** Classes of SQLSTATE that say "not now": connection, rollback, resources, lock, intervention, system. */
const UNAVAILABLE_CLASSES = ["08", "40", "53", "55", "57", "58"];
const PROTOCOL_VIOLATION = "08P01"; // "unsupported startup parameter"
const READ_ONLY_TRANSACTION = "25006"; // the primary has failed over, and this is a standby now

/** Connections, and how a statement gets its role on one of them. */
interface Session {
  pool: postgres.Sql;
  run<Result>(statement: Statement<Result>): PromiseLike<Result>;
}

type Statement<Result> = (sql: postgres.Sql) => PromiseLike<Result>;

export class Database {
  #session: Promise<Session> | undefined;

  /** Logs in as SUPABASE_DB_URL says (its `sslmode` too, `prefer` where it has none), works as `role`. */
  constructor(private readonly role: string) {}

  /** Runs one idempotent statement in a transaction of its own; twice, if its connection breaks.
   * Errors: DatabaseUnavailable, or what Postgres said. */
  async run<Result>(statement: Statement<Result>): Promise<Result> {
    const deadline = performance.now() + DEADLINE_MS;
    const attempt = () => {
      const session = this.#session ??= this.#open();
      const timeLeft = Math.max(deadline - performance.now(), 0);
      const work = session.then(({ run }) => run(statement));
      return withDeadline(work, timeLeft, () => this.#drop(session));
    };
    try {
      return await attempt().catch((error: PostgresFailure) => {
        if (CONNECTION_LOST.has(error.code ?? "")) return attempt();
        throw error;
      });
    } catch (error) {
      throw isUnavailable(error as PostgresFailure)
        ? new DatabaseUnavailable(error)
        : error;
    }
  }

  #open(): Promise<Session> {
    const session = openSession(this.role);
    session.catch(() => {
      if (this.#session === session) this.#session = undefined;
    });
    return session;
  }

  /** A statement past its deadline sits on a dead network path, which its pool would hand out again. */
  #drop(session: Promise<Session>): DatabaseUnavailable {
    if (this.#session === session) this.#session = undefined;
    session.then(({ pool }) => pool.end({ timeout: 0 })).catch(() => {});
    return unanswered();
  }
}

function unanswered(): DatabaseUnavailable {
  return new DatabaseUnavailable(
    new Error(`No answer from the database in ${DEADLINE_MS} ms.`),
  );
}

/** Directly, a connection has its role from the start. Behind a pooler each transaction takes it for itself, which
 * costs round trips and leaves no state on the connection. */
async function openSession(role: string): Promise<Session> {
  const direct = openPool({
    application_name: `tillbase ${role}`,
    // Start-up parameters: the role and the limit hold from the first statement, without a round trip.
    role,
    statement_timeout: STATEMENT_TIMEOUT_MS,
  }, { isPooled: false });
  try {
    const probe = keepsRole(direct, role);
    if (await withDeadline(probe, DEADLINE_MS, unanswered)) {
      return { pool: direct, run: (statement) => statement(direct) };
    }
  } catch (error) {
    direct.end({ timeout: 0 }).catch(() => {});
    throw error;
  }
  direct.end({ timeout: 0 }).catch(() => {});
  const pool = openPool({ application_name: `tillbase ${role}` }, {
    isPooled: true,
  });
  const settings =
    `set local role ${role}; set local statement_timeout = ${STATEMENT_TIMEOUT_MS}`;
  return {
    pool,
    run: <Result>(statement: Statement<Result>) =>
      pool.begin(async (transaction) => {
        await transaction.unsafe(settings);
        return await statement(transaction as unknown as postgres.Sql);
      }) as Promise<Result>,
  };
}

/** A pooler refuses start-up parameters that it can't keep apart, such as the role, or drops them. */
async function keepsRole(pool: postgres.Sql, role: string): Promise<boolean> {
  try {
    // By the simple protocol, which leaves no statement behind on a pooler's connection.
    const [{ taken }] = await pool.unsafe<[{ taken: string }]>(
      "select current_user as taken",
    );
    return taken === role;
  } catch (error) {
    if ((error as PostgresFailure).code === PROTOCOL_VIOLATION) return false;
    throw error;
  }
}

/** Connects to nothing yet: the first statement does. */
function openPool(
  connection: Record<string, string | number>,
  { isPooled }: { isPooled: boolean },
): postgres.Sql {
  const url = Deno.env.get("SUPABASE_DB_URL") ?? "";
  // The URL holds a password, so no error of a parser that quotes it may reach the log.
  if (!URL.canParse(url)) {
    throw new DatabaseUnavailable(
      new Error("SUPABASE_DB_URL is not set, or is not a URL."),
    );
  }
  return postgres(url, {
    ...untypedOptions(url, { isPooled }),
    ssl: false, // the socket's affair
    max: connectionCount(Deno.env.get("BILLING_DB_CONNECTIONS")),
    // Named statements make a call one round trip; postgres.js describes any other statement first. A pooler in
    // transaction mode gives each transaction another session, which knows no names.
    prepare: !isPooled,
    // The default asks pg_type on every new connection; we bind only text, numbers and booleans.
    fetch_types: false,
    // The default waits up to 20 s after an outage, and answers nothing meanwhile.
    backoff: () => 0,
    connect_timeout: CONNECT_TIMEOUT_SECONDS,
    idle_timeout: IDLE_TIMEOUT_SECONDS,
    max_lifetime: MAX_LIFETIME_SECONDS,
    onnotice: () => {},
    connection,
  });
}

/** Options that the types of postgres.js leave out. */
function untypedOptions(url: string, { isPooled }: { isPooled: boolean }) {
  const mode = sslMode(url);
  return {
    socket: ({ host, port }: { host: string[]; port: number[] }) =>
      new PostgresSocket(host[0], port[0], mode),
    // A statement never waits behind another one on its connection: a slow one holds up only itself. A transaction
    // has its connection to itself anyway, and does not begin without a pipeline.
    ...(isPooled ? {} : { max_pipeline: 0 }),
  };
}

async function withDeadline<T>(
  work: PromiseLike<T>,
  deadlineMs: number,
  late: () => Error,
): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const clock = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(late()), deadlineMs);
  });
  try {
    return await Promise.race([work, clock]);
  } finally {
    clearTimeout(timer);
  }
}

function connectionCount(setting: string | undefined): number {
  const count = Number(setting || DEFAULT_CONNECTIONS);
  const usable = Number.isInteger(count) && count >= 1 &&
    count <= MAX_CONNECTIONS;
  return usable ? count : DEFAULT_CONNECTIONS;
}

interface PostgresFailure {
  name?: string;
  code?: string;
  severity?: string;
}

function isUnavailable({ name, code, severity }: PostgresFailure): boolean {
  if (name === "PostgresError") {
    return severity !== "ERROR" || // FATAL: the connection was refused, or taken away
      code === READ_ONLY_TRANSACTION ||
      UNAVAILABLE_CLASSES.includes(code?.slice(0, 2) ?? "");
  }
  // The network's own (ECONNREFUSED, CONNECT_TIMEOUT, …). HttpErrors have lower-case codes and pass through.
  return typeof code === "string" && /^[A-Z][A-Z0-9_]+$/.test(code);
}
