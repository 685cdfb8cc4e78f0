"""Promise A14: whatever is asked, no answer is a server's fault or shows what is inside."""

from __future__ import annotations

import os
from collections import Counter

from google.protobuf.descriptor import MethodDescriptor
from grpc import StatusCode

from shop.users.v1 import session_pb2, users_pb2
from tests import callers, fuzzing
from tests.fuzzing import Fuzzer
from tests.users.people import PASSWORD, People, Served

# The promise is about 10,000 answers: SHOP_TEST_FUZZ=10000 SHOP_TEST_SEED=2.
ANSWERS = int(os.environ.get("SHOP_TEST_FUZZ", "1500"))
SEED = int(os.environ.get("SHOP_TEST_SEED", "1"))
# People are used up: they are asked to delete themselves.
ANSWERS_OF_A_CROWD = 100

METHODS: list[MethodDescriptor] = [
    method
    for file in (users_pb2.DESCRIPTOR, session_pb2.DESCRIPTOR)
    for service in file.services_by_name.values()
    for method in service.methods
]


async def test_random_requests_get_answers_that_show_nothing(
    people: People, served: Served
) -> None:
    codes: Counter[StatusCode] = Counter()
    answered = set()
    fuzzer = Fuzzer(SEED)
    for number in range(ANSWERS):
        if number % ANSWERS_OF_A_CROWD == 0:
            crowd = [await people.sign_up(role) for role in ("CUSTOMER", "STAFF", "ADMIN")]
            await people.sign_up("ADMIN")
            address = await crowd[0].add_address()
            fuzzer.words = [
                PASSWORD,
                address.id,
                *(str(person.id) for person in crowd),
                *(person.email for person in crowd),
                *(person.grant.refresh_token for person in crowd),
            ]
        method = fuzzer.random.choice(METHODS)
        request = fuzzer.request(method)
        caller = fuzzer.random.choice([*(person() for person in crowd), callers.service(), ()])
        answer = await fuzzing.ask(served.channel, method, request, (*caller, *fuzzer.metadata()))
        wrong = fuzzing.complaint(answer)
        assert not wrong, f"seed {SEED}, {wrong}\n{fuzzing.show(method, request)}"
        codes[answer.code] += 1
        if answer.code == StatusCode.OK:
            answered.add(method.full_name)
    # Random requests that nobody lets in would show nothing, too.
    assert codes[StatusCode.OK] > ANSWERS / 10, codes
    assert len(answered) >= 15, answered


def test_a_leak_would_be_seen() -> None:
    for text in (
        'File "/srv/services/users/store.py", line 3',
        'duplicate key value violates unique constraint "users_email_key"',
        "Unexpected <class 'KeyError'>: 'x'",
        "asyncpg.exceptions.DataError: invalid input",
        "INSERT INTO users.users (id) VALUES ($1)",
    ):
        assert fuzzing.complaint(fuzzing.Answer(StatusCode.INVALID_ARGUMENT, text))
    assert fuzzing.complaint(fuzzing.Answer(StatusCode.INTERNAL, ""))
    said = "The e-mail address or the password is wrong."
    assert not fuzzing.complaint(fuzzing.Answer(StatusCode.UNAUTHENTICATED, said))
