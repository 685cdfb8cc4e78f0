"""The trials of `make siege`, in short: what a busy machine does not decide has to hold."""

from __future__ import annotations

from tests.shop import ROOT
from tests.siege import migrations, outages, overload
from tests.siege.report import Report
from tests.visitors import Shop


async def test_a_service_that_is_down_takes_no_other_with_it(shop: Shop) -> None:
    report = Report()
    await outages.darken(shop, report, seconds=1.5)
    assert report.problems == []


async def test_what_is_too_much_is_shed_and_the_rest_is_done(shop: Shop) -> None:
    report = Report()
    await overload.flood(shop, report, seconds=1.5, judged=False)
    assert report.problems == []


def test_every_migration_but_the_first_has_a_release_before_it() -> None:
    """Where there is a history: a trial applies them to what it was made for."""
    found = {name for names in migrations.steps().values() for name in names}
    here = {str(path.relative_to(ROOT)) for path in migrations.later()}
    assert found in (set(), here)
