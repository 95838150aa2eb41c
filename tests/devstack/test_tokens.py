"""Tokens of the local stack: verifiable with the public keys alone, and shaped like Supabase Auth's."""

import json
import stat
import threading
import time
from pathlib import Path
from uuid import UUID, uuid4

import jwt
import pytest

from devstack.tokens import SigningKeys, find_or_create_user
from tests.support import Database, as_user

USER = UUID("5e7e1b8c-0000-4000-8000-000000000001")


def verified(token: str, jwks: str) -> dict[str, object]:
    key = jwt.PyJWKSet.from_json(jwks)[jwt.get_unverified_header(token)["kid"]]
    return jwt.decode(token, key, algorithms=["ES256"], audience="authenticated")


def test_token_is_verified_with_the_public_keys_and_carries_the_auth_servers_claims(tmp_path: Path) -> None:
    keys = SigningKeys.load(tmp_path / ".till")
    token = keys.access_token(USER, "ada@example.com", issuer="http://127.0.0.1:54321/auth/v1")
    claims = verified(token, keys.jwks())
    assert UUID(str(claims.pop("session_id")))
    issued_at = claims["iat"]
    assert isinstance(issued_at, int)
    assert abs(issued_at - time.time()) < 60
    assert claims == {
        "iss": "http://127.0.0.1:54321/auth/v1",
        "sub": str(USER),
        "aud": "authenticated",
        "role": "authenticated",
        "email": "ada@example.com",
        "phone": "",
        "iat": issued_at,
        "exp": issued_at + 3600,
        "aal": "aal1",
        "amr": [{"method": "password", "timestamp": issued_at}],
        "app_metadata": {"provider": "email", "providers": ["email"]},
        "user_metadata": {},
        "is_anonymous": False,
    }
    assert jwt.get_unverified_header(token)["alg"] == "ES256"


def test_expiry_is_counted_from_the_given_moment(tmp_path: Path) -> None:
    keys = SigningKeys.load(tmp_path)
    token = keys.access_token(USER, "ada@example.com", expires_in_seconds=60, now=1_000_000_000.9)
    with pytest.raises(jwt.ExpiredSignatureError):
        verified(token, keys.jwks())
    claims = jwt.decode(token, options={"verify_signature": False})
    assert (claims["iat"], claims["exp"]) == (1_000_000_000, 1_000_000_060)


def test_token_of_another_stack_is_refused(tmp_path: Path) -> None:
    ours, other = SigningKeys.load(tmp_path / "ours"), SigningKeys.load(tmp_path / "other")
    token = other.access_token(USER, "ada@example.com")
    forged = jwt.encode(
        jwt.decode(token, options={"verify_signature": False}),
        jwt.PyJWK(other.jwk).key,
        algorithm="ES256",
        headers={"kid": ours.jwk["kid"]},
    )
    with pytest.raises(KeyError):
        verified(token, ours.jwks())
    with pytest.raises(jwt.InvalidSignatureError):
        verified(forged, ours.jwks())


def test_key_is_kept_private_and_its_public_half_tells_nothing_of_it(tmp_path: Path) -> None:
    keys = SigningKeys.load(tmp_path)
    [file] = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert SigningKeys.load(tmp_path) == keys
    [public] = json.loads(keys.jwks())["keys"]
    assert "d" not in public
    assert keys.jwk["d"] not in keys.jwks()
    assert {name: public[name] for name in ("kty", "crv", "alg", "use", "key_ops")} == {
        "kty": "EC",
        "crv": "P-256",
        "alg": "ES256",
        "use": "sig",
        "key_ops": ["verify"],
    }


def test_two_first_uses_at_once_agree_on_one_key(tmp_path: Path) -> None:
    start, loaded = threading.Barrier(4), list[SigningKeys]()

    def load() -> None:
        start.wait()
        loaded.append(SigningKeys.load(tmp_path))

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loaded) == 4
    assert all(keys == loaded[0] for keys in loaded)
    assert len(list(tmp_path.iterdir())) == 1


def test_user_is_made_once_whatever_the_case_of_the_address(empty_database: Database) -> None:
    first = find_or_create_user(empty_database.admin_url, "Ada@Example.com")
    assert find_or_create_user(empty_database.admin_url, " ada@example.com ") == first
    with empty_database.connect() as connection:
        users = connection.execute("select id, email, role, aud, is_anonymous from auth.users").fetchall()
    assert users == [(first, "ada@example.com", "authenticated", "authenticated", False)]


def test_claims_of_a_token_are_what_policies_see(empty_database: Database, tmp_path: Path) -> None:
    user_id = find_or_create_user(empty_database.admin_url, f"{uuid4().hex}@example.com")
    keys = SigningKeys.load(tmp_path)
    claims = verified(keys.access_token(user_id, "ada@example.com"), keys.jwks())
    with empty_database.connect() as connection, as_user(connection, user_id, **claims) as session:
        assert session.execute("select auth.uid(), auth.email()").fetchone() == (user_id, "ada@example.com")
