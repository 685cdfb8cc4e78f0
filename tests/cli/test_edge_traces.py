"""Where the edge sends its spans, by the variables of OpenTelemetry."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from cli import edge
from cli.edge_traces import collector
from cli.programs import StartError
from cli.topology import Address

HERE = "http://127.0.0.1:4318"


def test_without_an_endpoint_or_switched_off_there_are_none() -> None:
    assert collector({}) is None
    assert collector({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}) is None
    told = {"OTEL_EXPORTER_OTLP_ENDPOINT": HERE, "OTEL_SDK_DISABLED": "true"}
    assert collector(told) is None
    assert "tracing:" not in edge.render(edge.Edge.compose())


def test_the_variables_are_read_as_services_read_them() -> None:
    told = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"{HERE}/otel/",
        "OTEL_EXPORTER_OTLP_HEADERS": "X-Key=a%20b,other=1",
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.25",
    }
    found = collector(told)
    assert found is not None
    assert (found.url, found.address) == (f"{HERE}/otel/v1/traces", Address("127.0.0.1", 4318))
    assert (found.headers, found.percent) == ({"x-key": "a b", "other": "1"}, 25.0)
    told["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = "https://collector/as-it-is"
    found = collector(told)
    assert found is not None
    assert (found.url, found.address) == ("https://collector/as-it-is", Address("collector", 443))


@pytest.mark.parametrize("url", ["127.0.0.1:4318", "ftp://x", "http://", "http://x:99999"])
def test_an_endpoint_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(StartError, match="OTLP over HTTP"):
        collector({"OTEL_EXPORTER_OTLP_ENDPOINT": url})


@pytest.mark.parametrize(("sampler", "share"), [("sometimes", "1"), ("traceidratio", "2")])
def test_a_sampler_that_is_none_is_refused(sampler: str, share: str) -> None:
    told = {"OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": share}
    with pytest.raises(StartError, match="OTEL_TRACES_SAMPLER is"):
        collector({"OTEL_EXPORTER_OTLP_ENDPOINT": HERE} | told)


@pytest.mark.parametrize("url", [HERE, "https://collector.example:4318"])
def test_envoy_takes_the_configuration(tmp_path: Path, url: str) -> None:
    told = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_EXPORTER_OTLP_HEADERS": "key=secret"}
    here = replace(edge.Edge.compose(), traces=collector(told), web=None)
    file = tmp_path / "envoy.yaml"
    file.write_text(edge.render(here))
    said = subprocess.run(
        [edge.envoy_binary(), "--mode", "validate", "--config-path", file],
        cwd=edge.ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert said.returncode == 0, said.stderr[-2000:]
