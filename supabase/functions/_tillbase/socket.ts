/** Host, port and sslmode → the connection that postgres.js speaks over, encrypted where the server can. */

// postgres.js would upgrade a `node:net` socket with `node:tls`, which hangs forever on Deno 2.1, the version
// of Supabase's edge runtime, and on some later ones (denoland/deno#28526). Deno's own TLS works on all of them.
import { Buffer } from "node:buffer";
import { Duplex } from "node:stream";

/** As in libpq, except that TLS always verifies the certificate: against the system's and SSL_CERT_FILE's. */
export type SslMode = "disable" | "prefer" | "require";

const SSL_REQUEST = new Uint8Array([0, 0, 0, 8, 4, 210, 22, 47]);
const YES = "S".charCodeAt(0);
const READ_BYTES = 16 * 1024;

/** sslmode of a connection URL. Without one, or with `allow`: `prefer`. With any other: `require`. */
export function sslMode(url: string): SslMode {
  const mode = new URL(url).searchParams.get("sslmode") ?? "prefer";
  if (mode === "disable") return "disable";
  return mode === "prefer" || mode === "allow" ? "prefer" : "require";
}

/** What postgres.js expects of a socket: it may be written to while it is still connecting. */
export class PostgresSocket extends Duplex {
  readyState: "opening" | "open" | "closed" = "opening";
  readonly #connection: Promise<Deno.Conn>;
  readonly #buffer = new Uint8Array(READ_BYTES);

  constructor(hostname: string, port: number, mode: SslMode) {
    super();
    this.#connection = connect(hostname, port, mode);
    this.#connection.then(
      () => {
        if (!this.destroyed) this.readyState = "open";
      },
      (error) => this.#fail(error),
    );
  }

  override _read(): void {
    this.#connection
      .then((connection) => connection.read(this.#buffer))
      .then((size) => {
        if (size === null) this.destroy();
        else this.push(Buffer.from(this.#buffer.subarray(0, size)));
      })
      .catch((error) => this.#fail(error));
  }

  override _write(
    chunk: Uint8Array,
    _encoding: string,
    done: (error?: Error) => void,
  ): void {
    this.#connection
      .then((connection) => writeAll(connection, chunk))
      .then(() => done())
      .catch((error) => this.#fail(error));
  }

  /** After the last message, which says goodbye, there is nothing to read. */
  override _final(done: () => void): void {
    done();
    this.destroy();
  }

  override _destroy(
    error: Error | null,
    done: (error: Error | null) => void,
  ): void {
    this.readyState = "closed";
    // A connection that comes late is closed when it comes.
    this.#connection.then((connection) => connection.close()).catch(() => {});
    done(error);
  }

  #fail(error: Error & { code?: string }): void {
    error.code ??= "CONNECT_FAILED"; // a name that does not resolve, a certificate that nobody signed
    this.destroy(error);
  }
}

async function connect(
  hostname: string,
  port: number,
  mode: SslMode,
): Promise<Deno.Conn> {
  const plain = await Deno.connect({ hostname, port });
  plain.setNoDelay(true);
  if (mode === "disable") return plain;
  try {
    if (await offersTls(plain)) return await encrypt(plain, hostname);
    const lacking = "The database server does not offer TLS.";
    if (mode === "require") throw new Error(lacking);
    if (!LOOPBACK.has(hostname)) tellOnce(lacking);
    return plain;
  } catch (error) {
    close(plain);
    if (mode === "require") throw error;
    tellOnce((error as Error).message);
    return await connect(hostname, port, "disable");
  }
}

const LOOPBACK = new Set(["localhost", "127.0.0.1", "::1"]);
let isTold = false;

/** `prefer` goes on without TLS, as in libpq. Here the log says so. */
function tellOnce(reason: string): void {
  if (isTold) return;
  isTold = true;
  const advice =
    "Connected without TLS. Add ?sslmode=require to SUPABASE_DB_URL to refuse that, or ?sslmode=disable where it is meant.";
  const line = { level: "warning", code: "database_without_tls" };
  console.warn(JSON.stringify({ ...line, reason: `${reason} ${advice}` }));
}

/** postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL */
async function offersTls(connection: Deno.Conn): Promise<boolean> {
  await writeAll(connection, SSL_REQUEST);
  const answer = new Uint8Array(1);
  if (await connection.read(answer) === null) {
    throw new Error("The database server hung up.");
  }
  return answer[0] === YES;
}

async function encrypt(
  connection: Deno.TcpConn,
  hostname: string,
): Promise<Deno.Conn> {
  const encrypted = await Deno.startTls(connection, { hostname });
  await encrypted.handshake();
  return encrypted;
}

async function writeAll(
  connection: Deno.Conn,
  bytes: Uint8Array,
): Promise<void> {
  for (let sent = 0; sent < bytes.byteLength;) {
    sent += await connection.write(bytes.subarray(sent));
  }
}

/** The handshake may have consumed the connection, and then closing it is an error of its own. */
function close(connection: Deno.Conn): void {
  try {
    connection.close();
  } catch {
    // closed already
  }
}
