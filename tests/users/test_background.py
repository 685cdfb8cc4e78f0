"""What the service does beside its calls, and the settings it starts with."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.kit.delivery import Mailbox, Smtp
from services.kit.settings import SettingsError
from services.users import cleanup, rules
from services.users.__main__ import Settings
from services.users.passwords import ITERATIONS, MEMORY_KIB
from tests import callers
from tests.running import refusal_of
from tests.users.people import People, Served


class TestCleanup:
    async def test_what_is_over_is_removed_and_nothing_else(
        self, people: People, served: Served
    ) -> None:
        person, other = await people.sign_up(), await people.sign_up()
        for who in (person, other):
            error = await served.fail_to_sign_in(who.email)
            assert refusal_of(error).reason == "INVALID_CREDENTIALS"
        for made_old in (
            "UPDATE users.sessions SET expire_time = now() - interval '1 s' WHERE user_id = $1",
            "UPDATE users.mail_tokens SET expire_time = now() - interval '1 s' WHERE user_id = $1",
            "UPDATE users.attempts SET update_time = now() - interval '2 h' WHERE subject = $1",
        ):
            subject = rules.FAILED_LOGINS.subject(person.email)
            which = subject if "attempts" in made_old else person.id
            await people.owner.execute(made_old, which)
        assert await cleanup.clean(served.database) == 3
        for table in ("sessions", "mail_tokens", "attempts"):
            assert await people.owner.fetchval(f"SELECT count(*) FROM users.{table}") == 1
        assert await cleanup.clean(served.database) == 0
        assert (await other.refresh()).access_token

    async def test_more_than_one_batch_is_removed_at_once(
        self, people: People, served: Served
    ) -> None:
        await people.owner.execute(
            "INSERT INTO users.attempts (subject, times, update_time)"
            " SELECT decode(to_hex(n), 'escape'), '{}', now() - interval '2 hours'"
            " FROM generate_series(1, 2500) n"
        )
        assert await cleanup.clean(served.database) == 2500

    def test_no_attempt_is_removed_that_a_limit_still_looks_at(self) -> None:
        limits = (rules.FAILED_LOGINS, rules.FAILED_PASSWORD_CHANGES, rules.RESET_MAILS)
        longest = max(limit.within for limit in limits)
        assert longest + timedelta(minutes=1) < cleanup.ATTEMPTS_AGE


class TestSettings:
    def load(self, **given: object) -> Settings:
        needed = {
            "database_url": "postgresql://u:p@h/d",
            "listen": "127.0.0.1:0",
            "service_secret": callers.SECRET,
            "signing_keys": "/keys",
        }
        return Settings.load(**needed | given)

    def test_passwords_cost_what_they_should_by_default(self) -> None:
        settings = self.load()
        assert (settings.argon2_iterations, settings.argon2_memory_kib) == (ITERATIONS, MEMORY_KIB)

    @pytest.mark.parametrize(
        "less", [{"argon2_iterations": ITERATIONS - 1}, {"argon2_memory_kib": MEMORY_KIB - 1}]
    )
    def test_in_production_they_cannot_cost_less(self, less: dict[str, int]) -> None:
        self.load(**less).passwords().close()
        with pytest.raises(SettingsError):
            self.load(**less, env="production").passwords()

    def test_a_new_key_waits_longer_than_anybody_keeps_the_old_set(self) -> None:
        assert self.load().signing_delay_seconds > 300 + 60

    def test_mails_go_to_the_server_if_there_is_one(self) -> None:
        both = self.load(mailbox="/mails", smtp_url="smtp://127.0.0.1")
        assert isinstance(both.delivery(), Smtp)
        assert isinstance(self.load(mailbox="/mails").delivery(), Mailbox)

    def test_mails_have_to_go_somewhere(self) -> None:
        with pytest.raises(SettingsError, match="SHOP_USERS_SMTP_URL or SHOP_USERS_MAILBOX"):
            self.load().delivery()
