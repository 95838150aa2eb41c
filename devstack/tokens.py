"""A user of the local stack → an access token as Supabase Auth issues it, and the keys to verify it."""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString
from uuid import UUID, uuid4

import jwt
import psycopg
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

KEY_FILE = "jwks-private.json"
ISSUER = "http://127.0.0.1/auth/v1"
_ALGORITHM = "ES256"
_SIGN_UP: LiteralString = """
    insert into auth.users (
        instance_id, id, aud, role, email, encrypted_password, confirmation_sent_at, email_confirmed_at,
        last_sign_in_at, raw_app_meta_data, raw_user_meta_data, created_at, updated_at
    )
    values (
        '00000000-0000-0000-0000-000000000000', gen_random_uuid(), 'authenticated', 'authenticated', %s, '',
        now(), now(), now(), '{"provider": "email", "providers": ["email"]}', '{}', now(), now()
    )
    on conflict (email) where is_sso_user = false do nothing
"""


@dataclass(frozen=True)
class SigningKeys:
    """The local stack's signing key, as a private JWK."""

    jwk: dict[str, Any]

    @classmethod
    def load(cls, directory: Path) -> "SigningKeys":
        """The key in `directory` (`.till`), created on first use; readable by its owner only."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / KEY_FILE
        if not path.exists():
            _write_new_key(path)
        return cls(json.loads(path.read_text(encoding="utf-8"))["keys"][0])

    def jwks(self) -> str:
        """The public half as a JSON Web Key Set: the functions' SUPABASE_JWKS."""
        public = {name: value for name, value in self.jwk.items() if name != "d"}
        return json.dumps({"keys": [{**public, "key_ops": ["verify"]}]})

    def access_token(
        self,
        user_id: UUID,
        email: str,
        *,
        expires_in_seconds: int = 3600,
        now: float | None = None,
        issuer: str = ISSUER,
    ) -> str:
        """A token as after a password sign-in; `now` in seconds since the epoch, by default the current time."""
        issued_at = int(time.time() if now is None else now)
        claims = {
            "iss": issuer,
            "sub": str(user_id),
            "aud": "authenticated",
            "exp": issued_at + expires_in_seconds,
            "iat": issued_at,
            "email": email,
            "phone": "",
            "app_metadata": {"provider": "email", "providers": ["email"]},
            "user_metadata": {},
            "role": "authenticated",
            "aal": "aal1",
            "amr": [{"method": "password", "timestamp": issued_at}],
            "session_id": str(uuid4()),
            "is_anonymous": False,
        }
        key = ECAlgorithm.from_jwk(self.jwk)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return jwt.encode(claims, key, algorithm=_ALGORITHM, headers={"kid": self.jwk["kid"]})


def find_or_create_user(admin_url: str, email: str) -> UUID:
    """Id of the user with this address in `auth.users`, signed up like the auth server does it if necessary."""
    with psycopg.connect(admin_url) as connection:
        return sign_up(connection, email)


def sign_up(connection: psycopg.Connection[Any], email: str) -> UUID:
    """The same in a transaction of a superuser, which goes on as the auth server."""
    email = email.strip().lower()
    # The auth server's own role, so that triggers on the table run with its privileges only.
    connection.execute("set local role supabase_auth_admin")
    connection.execute(_SIGN_UP, [email])
    found = connection.execute("select id from auth.users where email = %s and not is_sso_user", [email])
    row = found.fetchone()
    assert row is not None
    return row[0]


def _write_new_key(path: Path) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    jwk = {
        **ECAlgorithm.to_jwk(private, as_dict=True),
        "kid": str(uuid4()),
        "alg": _ALGORITHM,
        "use": "sig",
        "key_ops": ["sign", "verify"],
        "ext": True,
    }
    aside = path.with_name(f".{path.name}-{uuid4()}")
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump({"keys": [jwk]}, file)
    try:
        path.hardlink_to(aside)  # unlike a rename, this fails if another process was first: its key is used
    except FileExistsError:
        pass
    finally:
        aside.unlink()
