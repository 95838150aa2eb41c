/** Bearer token of a request → the claims in it, once our own auth server's signature and its times are right. */

export type Claims = Record<string, unknown>;

/** What a token must be. `keys` by `kid`; `audience` and `issuer` as in the claims `aud` and `iss`. */
export interface Trust {
  keys: Map<string, CryptoKey>;
  audience: string;
  issuer: string;
}

/** A token that is not accepted, in PostgREST's words: PGRST301 undecodable, PGRST303 refused claims. */
export class TokenRefused extends Error {
  constructor(readonly code: "PGRST301" | "PGRST303", message: string) {
    super(message);
  }
}

const ECDSA = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const encoder = new TextEncoder();

/** The public keys of a JSON Web Key Set. */
export async function trustedKeys(
  jwks: string,
): Promise<Map<string, CryptoKey>> {
  const keys: (JsonWebKey & { kid: string })[] = JSON.parse(jwks).keys;
  return new Map(
    await Promise.all(keys.map(async (jwk) =>
      [
        jwk.kid,
        await crypto.subtle.importKey("jwk", jwk, ECDSA, false, ["verify"]),
      ] as const
    )),
  );
}

/** Claims → the token that says so. */
export type Sign = (claims: Claims) => Promise<string>;

/** Signs with a private JSON Web Key. */
export async function signer(key: string): Promise<Sign> {
  const jwk: JsonWebKey & { kid: string } = JSON.parse(key);
  const { kid } = jwk;
  const usage = { ...jwk, key_ops: ["sign"] };
  const signing = await crypto.subtle.importKey("jwk", usage, ECDSA, false, [
    "sign",
  ]);
  return async (claims) => {
    const header = { alg: "ES256", kid, typ: "JWT" };
    const text = `${packed(JSON.stringify(header))}.${
      packed(JSON.stringify(claims))
    }`;
    const signature = await crypto.subtle.sign(
      ECDSA,
      signing,
      encoder.encode(text),
    );
    return `${text}.${packed(new Uint8Array(signature))}`;
  };
}

/** The claims of a token that we trust; throws TokenRefused for any other. */
export async function verifiedClaims(
  token: string,
  trust: Trust,
  nowSeconds: number,
): Promise<Claims> {
  const parts = token.split(".");
  if (parts.length !== 3) {
    throw new TokenRefused(
      "PGRST301",
      `Expected 3 parts in JWT; got ${parts.length}`,
    );
  }
  const [header, payload, signature] = parts;
  if (!await isSigned(header, `${header}.${payload}`, signature, trust.keys)) {
    throw new TokenRefused("PGRST301", "No suitable key or wrong key type");
  }
  const claims = decoded(payload);
  if (claims === null) {
    throw new TokenRefused("PGRST303", "Parsing claims failed");
  }
  const why = objection(claims, trust, nowSeconds);
  if (why) throw new TokenRefused("PGRST303", why);
  return claims;
}

/** Whatever the header says, the algorithm is ours: "none" and HS256 with the public key as secret are forgeries. */
async function isSigned(
  header: string,
  text: string,
  signature: string,
  keys: Map<string, CryptoKey>,
): Promise<boolean> {
  const { alg, kid, crit } = decoded(header) ?? {};
  const key = keys.get(String(kid));
  const bytes = unpacked(signature);
  if (alg !== "ES256" || crit !== undefined || !key || !bytes) return false;
  return await crypto.subtle.verify(ECDSA, key, bytes, encoder.encode(text));
}

function objection(
  claims: Claims,
  trust: Trust,
  nowSeconds: number,
): string | null {
  const { exp, nbf, iat, aud, iss } = claims;
  if (typeof exp !== "number") return "The JWT 'exp' claim must be a number";
  if (exp <= nowSeconds) return "JWT expired";
  if (typeof nbf === "number" && nbf > nowSeconds) return "JWT not yet valid";
  if (typeof iat === "number" && iat > nowSeconds) {
    return "JWT issued at future";
  }
  if (![aud].flat().includes(trust.audience)) return "JWT not in audience";
  if (iss !== trust.issuer) return "JWT of another issuer";
  return null;
}

function decoded(part: string): Claims | null {
  try {
    const value = JSON.parse(
      new TextDecoder().decode(unpacked(part) ?? undefined),
    );
    return typeof value === "object" && !Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}

function unpacked(part: string): Uint8Array<ArrayBuffer> | null {
  try {
    return Uint8Array.fromBase64(part, { alphabet: "base64url" });
  } catch {
    return null;
  }
}

function packed(data: string | Uint8Array): string {
  const bytes = typeof data === "string" ? encoder.encode(data) : data;
  return bytes.toBase64({ alphabet: "base64url", omitPadding: true });
}
