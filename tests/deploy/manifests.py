"""The Kubernetes manifests as they are written, and as kubectl puts them together."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli import deployment_secrets
from tests.deploy.reached import Manifest

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
BASE = KUBERNETES / "base"
OPERATING = (ROOT / "docs" / "operating.md").read_text()


def documents(path: Path) -> list[Any]:
    return list(yaml.load_all(path.read_text(), Loader=yaml.CSafeLoader))


def kustomization(folder: Path) -> Manifest:
    (found,) = documents(folder / "kustomization.yaml")
    return dict(found)


def resources(folder: Path) -> Iterator[tuple[Path, Manifest]]:
    """Everything that a kustomization is put together from, with its file."""
    told = kustomization(folder)
    for name in (*told["resources"], *told.get("components", ())):
        there = folder / name
        if there.is_dir():
            yield from resources(there.resolve())
        else:
            for document in documents(there):
                yield there, document


OF_BASE = [document for _, document in resources(BASE)]


def of_base(kind: str, name: str) -> Manifest:
    (found,) = (
        document
        for document in OF_BASE
        if document["kind"] == kind and document["metadata"]["name"] == name
    )
    return found


def template(document: Manifest) -> Manifest:
    spec: Manifest = document.get("spec", {}).get("template", {}).get("spec", {})
    return spec


def rendered(folder: Path, place: Path, *more: Path) -> list[Manifest]:
    """What kubectl, which has kustomize in it, makes of an overlay with these components more.

    With the secrets that its first lines say how to make. Skips where there is no kubectl.
    """
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl")
    copy = place / "kubernetes"
    shutil.copytree(KUBERNETES, copy, ignore=shutil.ignore_patterns("secrets"))
    overlay = copy / "overlays" / folder.name
    file = overlay / "kustomization.yaml"
    for command in re.findall(r"^# +shop secrets \S+(.*)$", file.read_text(), re.MULTILINE):
        options = dict(re.findall(r"--(replica|pooler) (\S+)", command))
        deployment_secrets.write(overlay / "secrets", **options)
    told = kustomization(folder)
    names = [f"../../components/{each.name}" for each in more]
    told["components"] = [*told.get("components", ()), *names]
    file.write_text(yaml.safe_dump(told))
    done = subprocess.run(
        ["kubectl", "kustomize", str(overlay)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.load_all(done.stdout, Loader=yaml.CSafeLoader) if one]
