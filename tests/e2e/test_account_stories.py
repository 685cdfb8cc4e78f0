"""What people do with their accounts, from signing up to leaving."""

from __future__ import annotations

import re
from typing import Any

import httpx

from tests.refusals import refused
from tests.shop import command
from tests.visitors import PASSWORD, Person, Shop, Visitor, answered, new_address

NEW_PASSWORD = "an entirely different one"
CONFIRM, RESET, CHANGED = "confirm your e-mail", "new password", "was changed"


async def sign_in(shop: Shop, email: str, password: str) -> httpx.Response:
    """The answer to a sign-in, whatever it is."""
    return await shop.nobody.post("/api/auth/login/", {"email": email, "password": password})


async def refresh(shop: Shop, token: str) -> httpx.Response:
    """The answer to a refresh token, whatever it is."""
    return await shop.nobody.post("/api/auth/refresh/", {"refresh_token": token})


async def test_ada_signs_up_lives_here_and_leaves(shop: Shop) -> None:
    # She signs up. Nobody has shown yet that the address is hers.
    email = new_address()
    new = {"email": email, "password": PASSWORD, "full_name": "Ada"}
    user = answered(await shop.nobody.post("/api/users/", new), 201)
    assert user["email_verified"] is False

    # She does what the mail says, word for word. Once is enough, and all that works.
    (mail,) = await shop.mails(email, CONFIRM)
    (line,) = re.findall(r"^curl .*?'$", mail.get_content(), re.MULTILINE | re.DOTALL)
    done = await command("bash", "-c", line)
    assert done.stdout == "{}", done
    ada = await Person.signed_in(shop.http, email, PASSWORD)
    assert answered(await ada.get("/api/users/me/"))["email_verified"] is True
    token = await shop.mailed_token(email, CONFIRM)
    again = await shop.nobody.post("/api/auth/verify-email/", {"token": token})
    assert refused(again, "MAIL_TOKEN_INVALID").fields.keys() == {"token"}

    # Her addresses: added, changed, listed newest first, one taken away.
    home = await add_address(ada, "1 Byron Row")
    work = await add_address(ada, "2 Engine Street")
    path = f"/api/users/{ada.id}/addresses/{home['id']}/"
    moved = answered(await ada.put(path, {"phone": "020 1234"}))
    assert moved == home | {name: moved[name] for name in ("phone", "update_time", "etag")}
    assert answered(await ada.get(path)) == moved
    listed = answered(await ada.get("/api/users/me/addresses/"))
    assert listed == {"addresses": [work, moved], "next_page_token": ""}
    assert answered(await ada.delete(path)) == {}
    refused(await ada.get(path), "RESOURCE_NOT_FOUND")

    # She moves to another e-mail address: the old one is told, the new one is to be confirmed.
    other = new_address()
    changed = answered(await ada.put("/api/users/me/", {"email": other}))
    assert (changed["email"], changed["email_verified"]) == (other, False)
    await shop.mails(email, CHANGED)
    token = await shop.mailed_token(other, CONFIRM)
    assert answered(await shop.nobody.post("/api/auth/verify-email/", {"token": token})) == {}

    # She forgets her password. Whether anybody has an address is not told.
    for address in (other, new_address()):
        answer = await shop.nobody.post("/api/auth/password-reset/", {"email": address})
        assert answered(answer) == {}
    token = await shop.mailed_token(other, RESET)
    confirm = {"token": token, "new_password": NEW_PASSWORD}
    path = "/api/auth/password-reset/confirm/"
    common = confirm | {"new_password": "password"}
    refused(await shop.nobody.post(path, common), "PASSWORD_TOO_COMMON")
    assert answered(await shop.nobody.post(path, confirm)) == {}
    refused(await shop.nobody.post(path, confirm), "MAIL_TOKEN_INVALID")
    refused(await refresh(shop, ada.refresh_token), "REFRESH_TOKEN_INVALID")
    refused(await sign_in(shop, other, PASSWORD), "INVALID_CREDENTIALS")
    ada = await Person.signed_in(shop.http, other, NEW_PASSWORD)

    # She leaves. Nothing of her is left, and the address is free for somebody else.
    assert answered(await ada.delete("/api/users/me/")) == {}
    refused(await sign_in(shop, other, NEW_PASSWORD), "INVALID_CREDENTIALS")
    refused(await refresh(shop, ada.refresh_token), "REFRESH_TOKEN_INVALID")
    refused(await shop.staff.get(f"/api/users/{ada.id}/"), "RESOURCE_NOT_FOUND")
    answered(await shop.nobody.post("/api/users/", new | {"email": other}), 201)


async def add_address(person: Person, line: str) -> dict[str, Any]:
    """A new address, which has to be where its location says."""
    postal = {"region_code": "GB", "address_lines": [line], "locality": "London"}
    answer = await person.post(f"/api/users/{person.id}/addresses/", {"postal_address": postal})
    address = answered(answer, 201)
    assert address["postal_address"].items() >= postal.items()
    assert address["user_id"] == person.id
    assert answer.headers["location"] == f"/api/users/{person.id}/addresses/{address['id']}/"
    assert answered(await person.get(answer.headers["location"])) == address
    return address


async def test_a_session_lives_by_its_refresh_token(shop: Shop) -> None:
    ada = await shop.sign_up()
    grant = answered(await refresh(shop, ada.refresh_token))
    assert grant.keys() == {
        "access_token",
        "token_type",
        "expires_in",
        "refresh_token",
        "refresh_expire_time",
        "user",
    }
    assert (grant["token_type"], grant["expires_in"]) == ("Bearer", 600)
    renewed = Visitor(shop.http, grant["access_token"])
    assert answered(await renewed.get("/api/users/me/")) == grant["user"]

    # Somebody uses the old one again: a thief, or she after a thief. The whole family is dead.
    refused(await refresh(shop, ada.refresh_token), "REFRESH_TOKEN_REUSED")
    refused(await refresh(shop, grant["refresh_token"]), "REFRESH_TOKEN_INVALID")
    refused(await renewed.delete("/api/users/me/"), "SESSION_ENDED")
    await ada.again()  # her password is as good as before


async def test_signing_out_ends_this_session_or_all(shop: Shop) -> None:
    phone = await shop.sign_up()
    laptop, tablet = await phone.again(), await phone.again()
    assert answered(await phone.post("/api/auth/logout/", {})) == {}
    assert answered(await phone.post("/api/auth/logout/", {})) == {}
    refused(await refresh(shop, phone.refresh_token), "REFRESH_TOKEN_INVALID")
    answered(await refresh(shop, laptop.refresh_token))

    assert answered(await tablet.post("/api/auth/logout/", {"all_sessions": True})) == {}
    refused(await refresh(shop, tablet.refresh_token), "REFRESH_TOKEN_INVALID")
    refused(await tablet.delete("/api/users/me/"), "SESSION_ENDED")
    refused(await laptop.delete("/api/users/me/"), "SESSION_ENDED")


async def test_a_new_password_ends_all_other_sessions(shop: Shop) -> None:
    here = await shop.sign_up()
    there = await here.again()
    path = f"/api/users/{here.id}/password/"
    wrong = {"current_password": NEW_PASSWORD, "new_password": NEW_PASSWORD}
    assert refused(await here.post(path, wrong), "PASSWORD_INCORRECT").fields.keys() == {
        "current_password"
    }
    right = wrong | {"current_password": PASSWORD}
    refused(await shop.admin.post(path, right), "RESOURCE_NOT_FOUND")
    assert answered(await here.post(path, right)) == {}
    refused(await refresh(shop, there.refresh_token), "REFRESH_TOKEN_INVALID")
    refused(await there.delete("/api/users/me/"), "SESSION_ENDED")
    answered(await refresh(shop, here.refresh_token))
    refused(await sign_in(shop, here.email, PASSWORD), "INVALID_CREDENTIALS")
    await Person.signed_in(shop.http, here.email, NEW_PASSWORD)


async def test_somebody_who_is_shut_out_is_out_at_once(shop: Shop) -> None:
    eve = await shop.sign_up()
    path = f"/api/users/{eve.id}/disabled/"
    refused(await shop.staff.put(path, {"disabled": True}), "ROLE_REQUIRED")
    assert answered(await shop.admin.put(path, {"disabled": True}))["disabled"] is True
    refused(await eve.delete("/api/users/me/"), "SESSION_ENDED")
    refused(await refresh(shop, eve.refresh_token), "REFRESH_TOKEN_INVALID")
    refused(await sign_in(shop, eve.email, PASSWORD), "USER_DISABLED")
    refused(await sign_in(shop, eve.email, "a guess"), "INVALID_CREDENTIALS")

    assert answered(await shop.admin.put(path, {"disabled": False}))["disabled"] is False
    await eve.again()


async def test_guessing_is_slowed_and_the_owner_stays_in(shop: Shop) -> None:
    ada = await shop.sign_up()
    for _ in range(10):
        refused(await sign_in(shop, ada.email, "a guess"), "INVALID_CREDENTIALS")
    for password in ("a guess", PASSWORD):
        refused(await sign_in(shop, ada.email, password), "LOGIN_THROTTLED")
    answered(await ada.get("/api/users/me/"))
    answered(await refresh(shop, ada.refresh_token))


async def test_the_last_administrator_cannot_go(shop: Shop) -> None:
    path = f"/api/users/{shop.admin.id}"
    refused(await shop.admin.delete(f"{path}/"), "LAST_ADMIN")
    refused(await shop.admin.put(f"{path}/role/", {"role": "CUSTOMER"}), "LAST_ADMIN")
    refused(await shop.admin.put(f"{path}/disabled/", {"disabled": True}), "LAST_ADMIN")
