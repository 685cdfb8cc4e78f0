"""The documented REST paths of users, in both slash forms."""

from __future__ import annotations

import re

import pytest

from tests.refusals import refused
from tests.visitors import PASSWORD, Shop, answered, new_address

UUID7 = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


class TestPostUsers:
    async def test_answers_201_with_the_user(self, shop: Shop, slash: str) -> None:
        body = {
            "email": f"Ada.{new_address()}",
            "password": PASSWORD,
            "full_name": "Ada Lovelace",
            "phone": "+44 20 7946 0000",
        }
        answer = await shop.nobody.post(f"/api/users{slash}", body)
        user = answered(answer, 201)
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["location"] == f"/api/users/{user['id']}/"
        assert re.fullmatch(UUID7, user["id"])
        assert TIME.fullmatch(user["create_time"])
        assert user == {
            "id": user["id"],
            "email": body["email"],
            "full_name": "Ada Lovelace",
            "phone": "+44 20 7946 0000",
            "role": "CUSTOMER",
            "email_verified": False,
            "disabled": False,
            "create_time": user["create_time"],
            "update_time": user["create_time"],
            "etag": user["etag"],
        }

    async def test_what_is_empty_is_printed_too(self, shop: Shop, slash: str) -> None:
        body = {"email": new_address(), "password": PASSWORD}
        user = answered(await shop.nobody.post(f"/api/users{slash}", body), 201)
        assert (user["full_name"], user["phone"]) == ("", "")

    async def test_the_location_leads_to_the_user(self, shop: Shop, slash: str) -> None:
        body = {"email": new_address(), "password": PASSWORD}
        answer = await shop.nobody.post(f"/api/users{slash}", body)
        found = answered(await shop.staff.get(answer.headers["location"]))
        assert found == answer.json()

    async def test_an_address_in_use_is_refused(self, shop: Shop, slash: str) -> None:
        ada = await shop.sign_up()
        body = {"email": ada.email.upper(), "password": PASSWORD}
        refusal = refused(await shop.nobody.post(f"/api/users{slash}", body), "EMAIL_TAKEN")
        assert refusal.fields.keys() == {"email"}


class TestGetUsersId:
    async def test_answers_the_user(self, shop: Shop, slash: str) -> None:
        ada = await shop.sign_up()
        user = answered(await ada.get(f"/api/users/{ada.id}{slash}"))
        assert (user["id"], user["email"]) == (ada.id, ada.email)

    async def test_me_is_the_caller(self, shop: Shop, slash: str) -> None:
        ada = await shop.sign_up()
        assert answered(await ada.get(f"/api/users/me{slash}"))["id"] == ada.id

    async def test_somebody_elses_user_is_not_there(self, shop: Shop, slash: str) -> None:
        ada, eve = await shop.sign_up(), await shop.sign_up()
        refusal = refused(await eve.get(f"/api/users/{ada.id}{slash}"), "RESOURCE_NOT_FOUND")
        assert refusal.metadata == {"resource": "user", "id": ada.id}

    async def test_without_a_token_it_is_401(self, shop: Shop, slash: str) -> None:
        answer = await shop.nobody.get(f"/api/users/{shop.staff.id}{slash}")
        refused(answer, "TOKEN_MISSING")
        assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("verb", ["PUT", "PATCH"])
class TestPutUsersId:
    async def test_changes_what_is_sent(self, shop: Shop, slash: str, verb: str) -> None:
        ada = await shop.sign_up()
        before = answered(await ada.get("/api/users/me/"))
        after = answered(await ada.call(verb, f"/api/users/{ada.id}{slash}", {"phone": "12345"}))
        assert after == before | {
            "phone": "12345",
            "update_time": after["update_time"],
            "etag": after["etag"],
        }
        assert after["update_time"] > before["update_time"]
        assert after["etag"] != before["etag"]
        assert answered(await ada.get(f"/api/users/{ada.id}{slash}")) == after

    async def test_a_mask_in_the_query_clears(self, shop: Shop, slash: str, verb: str) -> None:
        ada = await shop.sign_up()
        path = f"/api/users/me{slash}"
        after = answered(await ada.call(verb, path, {}, query={"update_mask": "full_name"}))
        assert after["full_name"] == ""

    async def test_a_mask_in_the_body_clears(self, shop: Shop, slash: str, verb: str) -> None:
        ada = await shop.sign_up()
        body = {"phone": "12345", "update_mask": "full_name,phone"}
        after = answered(await ada.call(verb, f"/api/users/me{slash}", body))
        assert (after["full_name"], after["phone"]) == ("", "12345")

    async def test_a_stale_etag_is_refused(self, shop: Shop, slash: str, verb: str) -> None:
        ada = await shop.sign_up()
        path = f"/api/users/{ada.id}{slash}"
        stale = answered(await ada.get(path))["etag"]
        fresh = answered(await ada.call(verb, path, {"phone": "1234", "etag": stale}))["etag"]
        refusal = refused(
            await ada.call(verb, path, {"phone": "5678", "etag": stale}), "ETAG_MISMATCH"
        )
        assert refusal.metadata == {"etag": fresh}
        assert answered(await ada.get(path))["phone"] == "1234"


class TestDeleteUsersId:
    async def test_answers_an_empty_object(self, shop: Shop, slash: str) -> None:
        ada = await shop.sign_up()
        path = f"/api/users/{ada.id}{slash}"
        assert answered(await ada.delete(path)) == {}
        refused(await shop.staff.get(path), "RESOURCE_NOT_FOUND")
        refused(await ada.delete(path), "SESSION_ENDED")

    async def test_a_stale_etag_is_refused(self, shop: Shop, slash: str) -> None:
        ada = await shop.sign_up()
        path = f"/api/users/{ada.id}{slash}"
        refused(await ada.delete(path, etag="v99"), "ETAG_MISMATCH")
        answered(await ada.get(path))


class TestGetUsers:
    async def test_lists_users_page_by_page(self, shop: Shop, slash: str) -> None:
        people = [await shop.sign_up() for _ in range(3)]
        emails: list[str] = []
        token, prefix = "", people[0].email[:6]
        while True:
            page = answered(
                await shop.staff.get(
                    f"/api/users{slash}", page_size=1, page_token=token, email_prefix=prefix
                )
            )
            assert page.keys() == {"users", "next_page_token"}
            emails += [user["email"] for user in page["users"]]
            token = page["next_page_token"]
            if not token:
                break
        assert emails == sorted(emails)
        assert {person.email for person in people} <= set(emails)
