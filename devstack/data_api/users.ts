/** auth.users and who of them is signed in → one statement or one transaction each, as the auth server's own role. */

import postgres from "postgres";

export type Json = Record<string, unknown>;

/** A row of auth.users, as far as the local sign-in looks at it. Times as ISO texts. */
export interface User {
  id: string;
  aud: string;
  role: string;
  email: string;
  encrypted_password: string | null;
  email_confirmed_at: string | null;
  last_sign_in_at: string | null;
  raw_app_meta_data: Json;
  raw_user_meta_data: Json;
  created_at: string;
  updated_at: string;
  is_anonymous: boolean;
  is_banned: boolean;
}

export interface Session {
  id: string;
  refreshToken: string;
}

/** Which sessions of a user a sign-out ends. */
export type Scope = "global" | "local" | "others";

export interface Users {
  /** → null when the address is taken. */
  signUp(
    email: string,
    encryptedPassword: string,
    metadata: Json,
  ): Promise<User | null>;
  byEmail(email: string): Promise<User | undefined>;
  byId(id: string): Promise<User | undefined>;
  openSession(userId: string): Promise<Session & { user: User }>;
  /** Each token is valid once, and ten seconds more, because two tabs may refresh at the same time. A token that is
   * used later was stolen: all tokens of the session end. */
  refresh(
    token: string,
  ): Promise<(Session & { userId: string }) | "unknown" | "used">;
  hasEnded(sessionId: string): Promise<boolean>;
  endSessions(userId: string, sessionId: string, scope: Scope): Promise<void>;
}

/** `url` logs in as supabase_auth_admin. */
export function usersOf(url: string): Users {
  const sql = postgres(url, { max: 4, onnotice: () => {} });
  const columns = sql`
    id, aud, role, email, encrypted_password, email_confirmed_at, last_sign_in_at, raw_app_meta_data, raw_user_meta_data,
    created_at, updated_at, is_anonymous, coalesce(banned_until > now(), false) as is_banned`;

  async function addToken(
    tx: postgres.TransactionSql,
    sessionId: string,
    userId: string,
    parent: string | null,
  ): Promise<string> {
    const token = freshToken();
    await tx`
      insert into auth.refresh_tokens (token, user_id, session_id, parent, revoked, created_at, updated_at)
      values (${token}, ${userId}, ${sessionId}, ${parent}, false, now(), now())`;
    return token;
  }

  return {
    // As if a message had gone to the address, and been answered at once.
    async signUp(email, encryptedPassword, metadata) {
      const [user] = await sql<[User?]>`
        insert into auth.users (
          instance_id, id, aud, role, email, encrypted_password, confirmation_sent_at, email_confirmed_at,
          raw_app_meta_data, raw_user_meta_data, created_at, updated_at
        )
        values (
          '00000000-0000-0000-0000-000000000000', gen_random_uuid(), 'authenticated', 'authenticated', ${email},
          ${encryptedPassword}, now(), now(), '{"provider": "email", "providers": ["email"]}',
          ${sql.json(metadata as postgres.JSONValue)}, now(), now()
        )
        on conflict (email) where is_sso_user = false do nothing
        returning ${columns}`;
      return user ?? null;
    },
    async byEmail(email) {
      const [user] = await sql<[User?]>`
        select ${columns} from auth.users where email = ${email} and not is_sso_user and deleted_at is null`;
      return user;
    },
    async byId(id) {
      const [user] = await sql<[User?]>`
        select ${columns} from auth.users where id = ${id} and deleted_at is null`;
      return user;
    },
    async openSession(userId) {
      return await sql.begin(async (tx) => {
        const [user] = await tx<[User]>`
          update auth.users set last_sign_in_at = now(), updated_at = now() where id = ${userId} returning ${columns}`;
        const id = crypto.randomUUID();
        await tx`insert into auth.sessions (id, user_id, created_at, updated_at) values (${id}, ${userId}, now(), now())`;
        return { id, user, refreshToken: await addToken(tx, id, userId, null) };
      });
    },
    async refresh(token) {
      if (token.includes("\0")) return "unknown"; // Postgres has no such text
      return await sql.begin(async (tx) => {
        const [held] = await tx`
          select tokens.session_id, tokens.user_id, tokens.revoked, tokens.updated_at > now() - interval '10 seconds' as fresh
          from auth.refresh_tokens as tokens join auth.sessions on sessions.id = tokens.session_id
          where tokens.token = ${token}
          for update`;
        if (!held) return "unknown" as const;
        const session = { id: held.session_id, userId: held.user_id };
        if (!held.revoked) {
          await tx`update auth.refresh_tokens set revoked = true, updated_at = now() where token = ${token}`;
          const refreshToken = await addToken(
            tx,
            session.id,
            session.userId,
            token,
          );
          return { ...session, refreshToken };
        }
        const [next] = await tx`
          select token from auth.refresh_tokens where parent = ${token} and not revoked`;
        if (held.fresh && next) return { ...session, refreshToken: next.token };
        await tx`update auth.refresh_tokens set revoked = true, updated_at = now() where session_id = ${session.id}`;
        return "used" as const;
      });
    },
    async hasEnded(sessionId) {
      const [{ ended }] = await sql`
        select exists (select from auth.sessions where id = ${sessionId} and not_after <= now()) as ended`;
      return ended;
    },
    async endSessions(userId, sessionId, scope) {
      await sql`
        with ended as (
          update auth.sessions set not_after = now(), updated_at = now()
          where user_id = ${userId} and case ${scope}
            when 'local' then id = ${sessionId} when 'others' then id <> ${sessionId} else true
          end
          returning id
        )
        delete from auth.refresh_tokens where session_id in (select id from ended)`;
    },
  };
}

function freshToken(): string {
  return crypto.getRandomValues(new Uint8Array(18)).toBase64({
    alphabet: "base64url",
  });
}
