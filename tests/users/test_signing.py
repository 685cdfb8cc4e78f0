"""The keys that sign access tokens: which are published, which signs, and how they are rotated."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from services.kit.settings import SettingsError
from services.users.signing import SigningKeys, public_jwk
from shop.users.v1.users_pb2 import GetJwksRequest, GetUserRequest, LoginRequest
from tests.users import signing_keys
from tests.users.people import PASSWORD, People, Served

DELAY = 600.0


def kids(keys: SigningKeys) -> list[str]:
    return [jwk["kid"] for jwk in keys.jwks()]


def kid(key: ec.EllipticCurvePrivateKey) -> str:
    return public_jwk(key.public_key())["kid"]


def age(path: Path, seconds: float) -> None:
    """Make a file so old."""
    then = time.time() - seconds
    os.utime(path, (then, then))


class TestPublicJwk:
    def test_the_kid_is_the_thumbprint(self) -> None:
        """The example key of RFC 7517, appendix A.1; its thumbprint by RFC 7638 is recomputed."""
        x = int.from_bytes(
            jwt.utils.base64url_decode("MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4")
        )
        y = int.from_bytes(
            jwt.utils.base64url_decode("4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM")
        )
        key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
        assert public_jwk(key) == {
            "kty": "EC",
            "crv": "P-256",
            "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
            "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
            "kid": "cn-I_WNMClehiVp51i_0VpOENW1upEerA8sEam5hn-s",
            "use": "sig",
            "alg": "ES256",
        }

    def test_what_is_signed_is_verified_by_it(self, tmp_path: Path) -> None:
        signing_keys.write(tmp_path / "1.pem")
        keys = SigningKeys(tmp_path)
        token = keys.sign({"sub": "ada"})
        (jwk,) = keys.jwks()
        assert jwt.get_unverified_header(token)["kid"] == jwk["kid"]
        verified = jwt.decode(token, jwt.PyJWK(dict(jwk)).key, algorithms=["ES256"])
        assert verified == {"sub": "ada"}


class TestSigningKeys:
    def test_the_only_key_signs_at_once(self, tmp_path: Path) -> None:
        key = signing_keys.write(tmp_path / "1.pem")
        assert SigningKeys(tmp_path, delay_seconds=DELAY).current().kid == kid(key)

    def test_a_new_key_is_published_at_once_and_signs_after_the_delay(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        old = signing_keys.write(tmp_path / "1.pem")
        keys = SigningKeys(tmp_path, delay_seconds=DELAY)
        # Copied with its times, as `cp -p` does: what counts is when we first saw it.
        new = signing_keys.write(tmp_path / "2.pem")
        age(tmp_path / "2.pem", 10 * DELAY)
        keys.reload()
        assert kids(keys) == [kid(old), kid(new)]
        now = time.time()
        monkeypatch.setattr("services.users.signing.time.time", lambda: now + DELAY - 5)
        assert kids(keys) == [kid(old), kid(new)]
        monkeypatch.setattr("services.users.signing.time.time", lambda: now + DELAY + 5)
        assert kids(keys) == [kid(new), kid(old)]

    def test_a_restart_does_not_begin_the_delay_again(self, tmp_path: Path) -> None:
        old = signing_keys.write(tmp_path / "1.pem")
        new = signing_keys.write(tmp_path / "2.pem")
        age(tmp_path / "1.pem", 5 * DELAY)
        age(tmp_path / "2.pem", 2 * DELAY)
        assert kids(SigningKeys(tmp_path, delay_seconds=DELAY)) == [kid(new), kid(old)]

    def test_a_restart_does_not_cut_the_delay_short(self, tmp_path: Path) -> None:
        old = signing_keys.write(tmp_path / "1.pem")
        new = signing_keys.write(tmp_path / "2.pem")
        age(tmp_path / "1.pem", 5 * DELAY)
        assert kids(SigningKeys(tmp_path, delay_seconds=DELAY)) == [kid(old), kid(new)]

    def test_a_removed_key_is_gone(self, tmp_path: Path) -> None:
        signing_keys.write(tmp_path / "1.pem")
        keys = SigningKeys(tmp_path)
        new = signing_keys.write(tmp_path / "2.pem")
        (tmp_path / "1.pem").unlink()
        keys.reload()
        assert kids(keys) == [kid(new)]
        assert keys.current().kid == kid(new)

    def test_the_last_key_stays_when_its_file_is_gone(self, tmp_path: Path) -> None:
        key = signing_keys.write(tmp_path / "1.pem")
        keys = SigningKeys(tmp_path)
        (tmp_path / "1.pem").unlink()
        keys.reload()
        assert kids(keys) == [kid(key)]

    def test_one_key_in_two_files_is_one_key(self, tmp_path: Path) -> None:
        key = signing_keys.write(tmp_path / "1.pem")
        signing_keys.write(tmp_path / "2.pem", key)
        assert kids(SigningKeys(tmp_path)) == [kid(key)]

    @pytest.mark.parametrize(
        "wrong",
        [
            b"",
            b"no key",
            rsa.generate_private_key(65537, 2048),
            ec.generate_private_key(ec.SECP384R1()),
            ec.generate_private_key(ec.SECP256K1()),
            ec.generate_private_key(ec.SECP256R1()).public_key(),
        ],
    )
    def test_what_is_no_such_key_is_passed_over(self, tmp_path: Path, wrong: Any) -> None:
        key = signing_keys.write(tmp_path / "1.pem")
        (tmp_path / "0.pem").write_bytes(wrong if isinstance(wrong, bytes) else _pem(wrong))
        (tmp_path / "2.pem").mkdir()
        signing_keys.write(tmp_path / "3.txt")
        assert kids(SigningKeys(tmp_path)) == [kid(key)]

    def test_without_any_the_service_does_not_start(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="EC P-256"):
            SigningKeys(tmp_path)
        with pytest.raises(SettingsError):
            SigningKeys(tmp_path / "nowhere")


class TestGetJwks:
    async def test_it_shows_public_keys_and_nothing_private(
        self, served: Served, keys_folder: Path
    ) -> None:
        answer = await served.auth.GetJwks(GetJwksRequest())
        (key,) = answer.keys
        assert (key.kty, key.crv, key.use, key.alg) == ("EC", "P-256", "sig", "ES256")
        assert set(key.DESCRIPTOR.fields_by_name) == {
            "kty", "crv", "x", "y", "kid", "use", "alg",
        }  # fmt: skip


class TestRotation:
    async def test_under_load_no_valid_call_fails(
        self, people: People, rotating: tuple[Served, Path]
    ) -> None:
        """Promise A5, with delays of parts of a second: a key comes, signs, the old one goes."""
        served, folder = rotating
        people = People(served, people.owner)
        person = await people.sign_up()
        signed_by: list[str] = []
        in_use = dict.fromkeys(range(4), "")
        stop = asyncio.Event()

        async def use(number: int) -> None:
            while not stop.is_set():
                grant = await served.auth.Login(LoginRequest(email=person.email, password=PASSWORD))
                signer = jwt.get_unverified_header(grant.access_token)["kid"]
                signed_by.append(signer)
                bearer = (("authorization", f"Bearer {grant.access_token}"),)
                await served.users.GetUser(GetUserRequest(id="me"), metadata=bearer)
                in_use[number] = signer

        load = [asyncio.ensure_future(use(number)) for number in in_use]
        new = signing_keys.write(folder / "2.pem")
        # The old key goes when nobody has a token of it any more, as the operator is told to wait.
        while set(in_use.values()) != {kid(new)}:
            await asyncio.sleep(0.01)
        (folder / "1.pem").unlink()
        await asyncio.sleep(0.3)
        stop.set()
        await asyncio.gather(*load)
        assert len(set(signed_by)) == 2
        published = (await served.auth.GetJwks(GetJwksRequest())).keys
        assert [key.kid for key in published] == [kid(new)]


def _pem(key: Any) -> bytes:
    if hasattr(key, "public_bytes"):
        public: bytes = key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return public
    private: bytes = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return private
