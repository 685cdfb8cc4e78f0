"""The decisions about users, by themselves."""

from __future__ import annotations

from datetime import timedelta

import pytest
from grpc import StatusCode

from services.kit.call import Caller
from services.kit.errors import ServiceError
from services.kit.ids import uuid7
from services.users import rules
from shop.options.v1.access_pb2 import ACCESS_ADMIN, ACCESS_STAFF

OTHER = uuid7()


class TestEmailKey:
    def test_case_does_not_tell_addresses_apart(self) -> None:
        assert rules.email_key("Ada@Example.COM") == rules.email_key("ada@example.com")

    def test_composed_and_decomposed_letters_are_the_same(self) -> None:
        assert rules.email_key("jos\u00e9@example.com") == rules.email_key("JOSE\u0301@example.com")


class TestCheckMayChange:
    @pytest.mark.parametrize("role", ["CUSTOMER", "STAFF", "ADMIN"])
    def test_everybody_may_change_themselves(self, role: str) -> None:
        rules.check_may_change(Caller(user_id=OTHER), {"id": OTHER, "role": role})

    @pytest.mark.parametrize("role", ["CUSTOMER", "STAFF", "ADMIN"])
    def test_an_administrator_may_change_everybody(self, role: str) -> None:
        rules.check_may_change(Caller(uuid7(), ACCESS_ADMIN), {"id": OTHER, "role": role})

    def test_staff_may_change_customers(self) -> None:
        rules.check_may_change(Caller(uuid7(), ACCESS_STAFF), {"id": OTHER, "role": "CUSTOMER"})

    @pytest.mark.parametrize("role", ["STAFF", "ADMIN"])
    def test_staff_may_not_change_staff(self, role: str) -> None:
        with pytest.raises(ServiceError) as refused:
            rules.check_may_change(Caller(uuid7(), ACCESS_STAFF), {"id": OTHER, "role": role})
        assert refused.value.code == StatusCode.PERMISSION_DENIED
        assert refused.value.metadata == {"role": "ADMIN"}


class TestIsActiveAdmin:
    @pytest.mark.parametrize(
        ("role", "disabled", "active"),
        [("ADMIN", False, True), ("ADMIN", True, False), ("STAFF", False, False)],
    )
    def test_it_takes_the_role_and_that_it_can_be_used(
        self, role: str, disabled: bool, active: bool
    ) -> None:
        assert rules.is_active_admin({"role": role, "disabled": disabled}) is active


class TestCheckRoomForAddress:
    def test_one_below_the_limit_has_room(self) -> None:
        rules.check_room_for_address(rules.MOST_ADDRESSES - 1)

    def test_at_the_limit_there_is_none(self) -> None:
        with pytest.raises(ServiceError) as refused:
            rules.check_room_for_address(rules.MOST_ADDRESSES)
        assert refused.value.metadata == {"resource": "address", "limit": "100"}


class TestLimits:
    def test_none_looks_further_back_than_attempts_are_kept(self) -> None:
        limits = (rules.FAILED_LOGINS, rules.FAILED_PASSWORD_CHANGES, rules.RESET_MAILS)
        assert max(limit.most for limit in limits) <= rules.MOST_ATTEMPTS

    def test_the_same_address_counts_separately_for_each_action(self) -> None:
        address = "ada@example.com"
        assert rules.FAILED_LOGINS.subject(address) != rules.RESET_MAILS.subject(address)

    @pytest.mark.parametrize(("seconds", "told"), [(0.0, 1), (0.2, 1), (59.2, 60), (900.0, 900)])
    def test_the_wait_is_told_in_whole_seconds_and_never_too_short(
        self, seconds: float, told: int
    ) -> None:
        assert rules.throttled(seconds).retry_after == timedelta(seconds=told)


class TestCheckNotCleared:
    def test_a_field_that_is_not_changed_may_be_anything(self) -> None:
        rules.check_not_cleared({"phone": ""}, "email")

    def test_an_empty_value_is_refused_by_name(self) -> None:
        with pytest.raises(ServiceError) as refused:
            rules.check_not_cleared({"email": "", "phone": ""}, "email")
        assert [violation.field for violation in refused.value.violations] == ["email"]
