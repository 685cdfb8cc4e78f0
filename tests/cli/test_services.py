"""What each service is told of Stripe: the real one by its own variables, else the sandbox."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from cli.data_folder import DataFolder
from cli.programs import StartError
from cli.services import (
    SANDBOX_KEY,
    edge_program,
    service_environment,
    service_program,
    uses_stripe,
)
from cli.topology import ALL_SERVICES, Topology, allocate

DATABASE = {"DATABASE_URL": "postgresql://x"}
LIVE = {"STRIPE_SECRET_KEY": "sk_live_1", "STRIPE_WEBHOOK_SECRET": "whsec_1,whsec_0"}


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    folder = DataFolder(tmp_path)
    folder.prepare()
    return folder


@pytest.fixture
def topology() -> Topology:
    return allocate(0)[0]


def told(
    service: str, topology: Topology, folder: DataFolder, surroundings: Mapping[str, str]
) -> dict[str, str]:
    """The variables of a service that have to do with Stripe."""
    found = service_environment(service, topology, folder, DATABASE, surroundings)
    return {name: value for name, value in found.items() if "STRIPE" in name}


def test_without_a_key_payments_use_the_sandbox(topology: Topology, folder: DataFolder) -> None:
    assert not uses_stripe({})
    assert told("payment", topology, folder, {}) == {
        "SHOP_PAYMENT_STRIPE_SECRET_KEY": SANDBOX_KEY,
        "SHOP_PAYMENT_STRIPE_WEBHOOK_SECRET_FILE": str(folder.stripe_webhook_secret),
        "SHOP_PAYMENT_STRIPE_BASE_URL": f"http://{topology.stripe}",
    }


@pytest.mark.parametrize("in_files", [False, True])
def test_with_stripes_own_variables_payments_use_stripe(
    topology: Topology, folder: DataFolder, *, in_files: bool
) -> None:
    surroundings = dict(LIVE)
    if in_files:
        for name in LIVE:
            (folder.path / name).write_text(surroundings.pop(name) + "\n")
            surroundings[f"{name}_FILE"] = str(folder.path / name)
    assert uses_stripe(surroundings)
    found = told("payment", topology, folder, surroundings)
    assert found["SHOP_PAYMENT_STRIPE_SECRET_KEY"] == "sk_live_1"
    assert found["SHOP_PAYMENT_STRIPE_WEBHOOK_SECRET"] == "whsec_1,whsec_0"
    assert "SHOP_PAYMENT_STRIPE_BASE_URL" not in found


def test_nobody_else_is_told_a_key(topology: Topology, folder: DataFolder) -> None:
    surroundings = LIVE | {"SHOP_STRIPE_SECRET_KEY": "sk_live_2"}
    for service in set(ALL_SERVICES) - {"payment"}:
        assert told(service, topology, folder, surroundings) == {}
    edge = edge_program(topology, folder, surroundings).environment
    assert [name for name in edge if "STRIPE" in name] == []


def test_a_service_is_told_no_database_but_its_own(topology: Topology, folder: DataFolder) -> None:
    surrounding = {
        "SHOP_DATABASE_URL": "postgresql://owner@db/shop",
        **{
            f"SHOP_{name.upper()}_DATABASE_URL": f"postgresql://{name}@db/x"
            for name in ALL_SERVICES
        },
    }
    own = {"DATABASE_URL": "postgresql://own"}
    for name in ALL_SERVICES:
        environment = service_environment(name, topology, folder, own, surrounding)
        urls = {key: value for key, value in environment.items() if "DATABASE_URL" in key}
        assert urls == {f"SHOP_{name.upper()}_DATABASE_URL": "postgresql://own"}


def test_a_file_that_is_not_there_is_named(topology: Topology, folder: DataFolder) -> None:
    with pytest.raises(StartError, match="STRIPE_SECRET_KEY_FILE names /nowhere"):
        told("payment", topology, folder, {"STRIPE_SECRET_KEY_FILE": "/nowhere"})


def test_several_processes_of_a_service_share_its_calls(folder: DataFolder) -> None:
    topology, _ = allocate(0, 2)
    assert set(topology.services) == {*ALL_SERVICES, *(f"{name}-2" for name in ALL_SERVICES)}
    every = [*topology.services.values(), *topology.metrics.values()]
    assert len(set(every)) == len(every) == 20
    first, second = (
        service_environment(name, topology, folder, DATABASE, {}) for name in ("order", "order-2")
    )
    differ = {name for name in first if first[name] != second[name]}
    assert differ == {"SHOP_ORDER_LISTEN", "SHOP_ORDER_METRICS_LISTEN"}
    both = ",".join(str(topology.services[name]) for name in ("catalog", "catalog-2"))
    assert second["SHOP_CATALOG_ADDRESS"] == both
    assert service_program("order-2", topology, folder, DATABASE, {}).command[-1] == (
        "services.order"
    )
    edge_program(topology, folder, {})
    rendered = folder.envoy.read_text()
    assert all(f"port_value: {at.port}" in rendered for at in topology.services.values())
