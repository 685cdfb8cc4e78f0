"""Passwords: changed, hashed, and those that nobody should have."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from pathlib import Path
from typing import Any

import argon2
import pytest
from grpc import StatusCode

from services.kit.errors import ServiceError
from services.users import passwords
from services.users.passwords import Passwords
from shop.users.v1.users_pb2 import ChangePasswordRequest
from tests.running import refused
from tests.users.people import NEW_PASSWORD, PASSWORD, People, Person


async def change(person: Person, key: str = "", **fields: Any) -> None:
    fields = {"id": "me", "current_password": PASSWORD, "new_password": NEW_PASSWORD} | fields
    await person.served.users.ChangePassword(
        ChangePasswordRequest(**fields), metadata=person(key=key)
    )


class TestChangePassword:
    async def test_the_new_one_is_good_and_the_old_one_is_not(self, people: People) -> None:
        person = await people.sign_up()
        await change(person)
        with refused(StatusCode.UNAUTHENTICATED, "INVALID_CREDENTIALS"):
            await person.sign_in(PASSWORD)
        assert (await person.sign_in(NEW_PASSWORD)).grant.access_token

    async def test_this_session_goes_on_and_all_others_end(self, people: People) -> None:
        person = await people.sign_up()
        other = await person.sign_in()
        await change(person)
        assert (await person.refresh()).access_token
        with refused(StatusCode.UNAUTHENTICATED, "REFRESH_TOKEN_INVALID"):
            await other.refresh()

    async def test_the_wrong_current_one_changes_nothing(self, people: People) -> None:
        person = await people.sign_up()
        with refused(StatusCode.INVALID_ARGUMENT, "PASSWORD_INCORRECT") as held:
            await change(person, current_password="wrong")
        assert list(held[0].fields) == ["current_password"]
        assert (await person.sign_in()).grant.access_token

    async def test_after_ten_wrong_ones_it_has_to_wait(self, people: People) -> None:
        person = await people.sign_up()
        for _ in range(10):
            with refused(StatusCode.INVALID_ARGUMENT, "PASSWORD_INCORRECT"):
                await change(person, current_password="wrong")
        with refused(StatusCode.RESOURCE_EXHAUSTED, "LOGIN_THROTTLED") as held:
            await change(person)
        assert held[0].retry_seconds > 0

    async def test_a_common_new_one_is_refused(self, people: People) -> None:
        person = await people.sign_up()
        with refused(StatusCode.INVALID_ARGUMENT, "PASSWORD_TOO_COMMON") as held:
            await change(person, new_password="iloveyou")
        assert list(held[0].fields) == ["new_password"]

    @pytest.mark.parametrize("role", ["CUSTOMER", "STAFF", "ADMIN"])
    async def test_nobody_does_it_for_somebody_else(self, people: People, role: str) -> None:
        person, other = await people.sign_up(role), await people.sign_up()
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            await change(person, id=str(other.id))

    async def test_repeated_with_the_same_key_it_says_yes_again(self, people: People) -> None:
        """Although the current password of the repeated call is the old one by then."""
        person = await people.sign_up()
        for _ in range(2):
            await change(person, key="k")
        assert (await person.sign_in(NEW_PASSWORD)).grant.access_token

    async def test_of_many_at_the_same_time_one_wins(self, people: People) -> None:
        person = await people.sign_up()
        chosen = [f"{NEW_PASSWORD} {number}" for number in range(5)]
        answers = await asyncio.gather(
            *(change(person, new_password=password) for password in chosen),
            return_exceptions=True,
        )
        assert answers.count(None) == 1
        assert (await person.sign_in(chosen[answers.index(None)])).grant.access_token


class TestHashing:
    async def test_it_is_argon2id_at_the_promised_cost(self) -> None:
        stored = await Passwords().hash(PASSWORD)
        assert argon2.extract_parameters(stored) == argon2.Parameters(
            type=argon2.Type.ID,
            version=19,
            salt_len=16,
            hash_len=32,
            time_cost=2,
            memory_cost=19 * 1024,
            parallelism=1,
        )

    async def test_no_two_hashes_of_a_password_are_the_same(self, cheap: Passwords) -> None:
        first, second = await asyncio.gather(cheap.hash(PASSWORD), cheap.hash(PASSWORD))
        assert first != second
        assert await cheap.verify(first, PASSWORD)
        assert not await cheap.verify(first, PASSWORD + " ")

    @pytest.mark.parametrize("stored", [None, "", "no hash at all"])
    async def test_without_a_hash_nothing_is_right(
        self, cheap: Passwords, stored: str | None
    ) -> None:
        assert not await cheap.verify(stored, "")
        assert not await cheap.verify(stored, PASSWORD)

    async def test_some_run_at_once_and_a_few_wait_and_more_are_refused(
        self, cheap: Passwords
    ) -> None:
        room = passwords.AT_ONCE + passwords.MOST_WAITING
        running, most, hold = 0, 0, threading.Event()

        def work() -> str:
            nonlocal running, most
            running += 1
            most = max(most, running)
            hold.wait(5)
            running -= 1
            return "done"

        waiting = [asyncio.ensure_future(cheap._run(work)) for _ in range(room)]
        await asyncio.sleep(0.05)
        with pytest.raises(ServiceError) as refused:
            await cheap.hash(PASSWORD)
        assert refused.value.code == StatusCode.RESOURCE_EXHAUSTED
        assert refused.value.retry_after
        hold.set()
        assert await asyncio.gather(*waiting) == ["done"] * room
        assert most == passwords.AT_ONCE
        assert await cheap.hash(PASSWORD)

    async def test_who_gives_up_waiting_makes_room(self, cheap: Passwords) -> None:
        hold = threading.Event()
        room = passwords.AT_ONCE + passwords.MOST_WAITING
        waiting = [asyncio.ensure_future(cheap._run(lambda: hold.wait(5))) for _ in range(room)]
        await asyncio.sleep(0.05)
        for call in waiting:
            call.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        hold.set()
        assert await cheap.hash(PASSWORD)


class TestCommonPasswords:
    def test_there_are_3000_of_them_that_would_be_long_enough(self) -> None:
        lines = Path(passwords.COMMON).read_text(encoding="utf-8").splitlines()
        listed = [line for line in lines if not line.startswith("#")]
        assert len(set(listed)) == 3000
        assert all(len(line) >= 8 and line == line.casefold() for line in listed)

    @pytest.mark.parametrize(
        "password", ["password", "PASSWORD1", "baseball", "\uff50assword", "qwertyuiop"]
    )
    def test_they_are_refused_however_they_are_written(
        self, cheap: Passwords, password: str
    ) -> None:
        with pytest.raises(ServiceError):
            cheap.check_uncommon("password", password)

    def test_others_are_fine(self, cheap: Passwords) -> None:
        cheap.check_uncommon("password", PASSWORD)


@pytest.fixture
def cheap() -> Any:
    """Hashes that cost next to nothing."""
    made = Passwords(iterations=1, memory_kib=64)
    yield made
    made.close()


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities in Linux only")
async def test_who_hashes_stands_back() -> None:
    hashing = Passwords(iterations=1, memory_kib=64)
    await hashing.hash(PASSWORD)
    threads = [each.native_id for each in threading.enumerate() if each.name.startswith("argon2")]
    assert threads
    own = os.getpriority(os.PRIO_PROCESS, 0)
    for thread in threads:
        assert thread is not None
        assert os.getpriority(os.PRIO_PROCESS, thread) == min(19, own + passwords.NICE)
        assert os.sched_getscheduler(thread) == os.SCHED_BATCH
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == own
    hashing.close()
