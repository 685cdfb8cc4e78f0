"""Writes generated/ from protos/, or proves that it is fresh and breaks no client.

`python -m tools.protos` rewrites everything this module owns under generated/:

- `shop/**`, `buf/**`: messages (`*_pb2.py`), servicers and stubs (`*_pb2_grpc.py`) and their types
  (`*.pyi`; stubs are typed for grpc.aio). Google's messages come from googleapis-common-protos.
- `shop.binpb`: the descriptor set with everything imported, plus google.rpc's error details, which
  Envoy needs to print errors. Of all comments it keeps ours: documentation is made from them.
- `edge.binpb`: the same as the edge's transcoder reads it, made by `cli.edge_contract`.
- `openapi.yaml`: what the REST side of it is, made by `tools.openapi`.

Before that it refreshes third_party/googleapis, the protos of Google that ours import, from the
package that also brings their Python code.

`--check` fails when generated/ is not what protos/ makes. `--breaking` fails when protos/ breaks
clients of the version before: of HEAD, or of HEAD's parent when HEAD has the contract as it is now.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from google.protobuf import descriptor_pb2

ROOT = Path(__file__).resolve().parent.parent
GENERATED = ROOT / "generated"
DESCRIPTORS = "shop.binpb"
EDGE = "edge.binpb"
OPENAPI = "openapi.yaml"
OWNED = ("shop", "buf", DESCRIPTORS, EDGE, OPENAPI)
OUR_PACKAGE = "shop/"
# Whatever is not ours and not in googleapis-common-protos has to be generated too.
ALSO_GENERATED = ("buf/validate/validate.proto",)
GOOGLE = Path("third_party/googleapis")
GOOGLE_PACKAGE = "googleapis-common-protos"
INCLUDES = ("protos", "third_party/googleapis", "third_party/protovalidate")
# The tools that were installed beside this Python come first.
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def run(*command: str | Path, **environment: str) -> None:
    """Run a tool in the repository. When it fails, so do we: its own output says why."""
    surroundings = os.environ | {"PATH": PATH} | environment
    result = subprocess.run(command, cwd=ROOT, env=surroundings, check=False)
    if result.returncode:
        raise SystemExit(result.returncode)


def google_protos() -> dict[Path, Path]:
    """Our copies of Google's protos, relative to the repository, and what they are copies of."""
    package = metadata.distribution(GOOGLE_PACKAGE)
    return {
        copy.relative_to(ROOT): Path(str(package.locate_file(copy.relative_to(ROOT / GOOGLE))))
        for copy in sorted((ROOT / GOOGLE).rglob("*.proto"))
    }


def describe(target: Path) -> descriptor_pb2.FileDescriptorSet:
    """Write the descriptor set to `target` and return it."""
    run(tool("buf"), "build", "--as-file-descriptor-set", "--output", target)
    files = descriptor_pb2.FileDescriptorSet.FromString(target.read_bytes())
    for file in files.file:
        keep_comments(file)
    target.write_bytes(files.SerializeToString(deterministic=True))
    return files


def keep_comments(file: descriptor_pb2.FileDescriptorProto) -> None:
    """Reduce the source info of a file to our comments: what else there is serves nobody here."""
    commented = [
        descriptor_pb2.SourceCodeInfo.Location(
            path=location.path,
            # Nobody looks at it, but `buf breaking` reads no location without one.
            span=location.span,
            leading_comments=location.leading_comments,
        )
        for location in file.source_code_info.location
        if location.leading_comments and file.name.startswith(OUR_PACKAGE)
    ]
    file.ClearField("source_code_info")
    if commented:
        file.source_code_info.location.extend(commented)


def generate(folder: Path) -> None:
    """Write everything owned by this module into an existing, empty folder."""
    files = describe(folder / DESCRIPTORS).file
    ours = [file for file in files if file.name.startswith(OUR_PACKAGE)]
    services = [file.name for file in ours if file.service]
    protoc = [sys.executable, "-m", "grpc_tools.protoc", *(f"-I{path}" for path in INCLUDES)]
    run(
        *protoc,
        f"--plugin=protoc-gen-mypy={tool('protoc-gen-mypy')}",
        f"--python_out={folder}",
        f"--mypy_out=quiet:{folder}",
        *(file.name for file in ours),
        *ALSO_GENERATED,
    )
    run(
        *protoc,
        f"--plugin=protoc-gen-mypy_grpc={tool('protoc-gen-mypy_grpc')}",
        f"--grpc_python_out={folder}",
        f"--mypy_grpc_out=quiet,only_async:{folder}",
        *services,
    )
    # In processes of their own, which know the options and reasons that were generated just now.
    for module, made in (("cli.edge_contract", EDGE), ("tools.openapi", OPENAPI)):
        run(
            *(sys.executable, "-m", module, folder / DESCRIPTORS, folder / made),
            PYTHONPATH=str(folder),
        )


def tool(name: str) -> str:
    """Path of an installed tool. Exits when it is missing."""
    found = shutil.which(name, path=PATH)
    if found is None:
        raise SystemExit(f"{name} is not installed beside {sys.executable}: run make protos")
    return found


def contents(folder: Path) -> set[Path]:
    """The generated files below a folder, relative to it."""
    return {
        path.relative_to(folder)
        for name in OWNED
        for path in [folder / name, *(folder / name).rglob("*")]
        if path.is_file() and path.suffix != ".pyc"
    }


def install(fresh: Path) -> None:
    """Make generated/ hold what `fresh` holds. Files that have not changed are left untouched."""
    wanted = contents(fresh)
    for path in contents(GENERATED) - wanted:
        (GENERATED / path).unlink()
    for path in sorted(wanted):
        target = GENERATED / path
        if not (target.exists() and filecmp.cmp(fresh / path, target, shallow=False)):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(fresh / path, target)


def check(fresh: Path) -> None:
    """Exit with status 1 when generated/ is not `fresh`, or a copy of Google's not the original."""
    outdated = [
        f"  changed: {copy}"
        for copy, original in google_protos().items()
        if not filecmp.cmp(ROOT / copy, original, shallow=False)
    ]
    wanted, present = contents(fresh), contents(GENERATED)
    stale = {
        path
        for path in wanted & present
        if not filecmp.cmp(fresh / path, GENERATED / path, shallow=False)
    }
    verdicts = {"changed": stale, "missing": wanted - present, "left over": present - wanted}
    lines = outdated + [
        f"  {verdict}: generated/{path}"
        for verdict, paths in verdicts.items()
        for path in sorted(paths)
    ]
    if lines:
        print("Stale; run `make protos` and commit:", *lines, sep="\n")
        raise SystemExit(1)


def committed(revision: str) -> bytes | None:
    """The descriptor set at a git revision; None where there is none (or no git)."""
    try:
        result = subprocess.run(
            ["git", "show", f"{revision}:generated/{DESCRIPTORS}"],
            cwd=ROOT,
            capture_output=True,
            check=False,
        )
    except FileNotFoundError:
        return None
    return result.stdout if result.returncode == 0 else None


def breaking() -> None:
    """Exit with status 1 when protos/ breaks clients of the version before (buf's WIRE_JSON)."""
    with tempfile.TemporaryDirectory() as folder:
        now, before = Path(folder, "now.binpb"), Path(folder, "before.binpb")
        describe(now)
        descriptors = committed("HEAD")
        if descriptors == now.read_bytes():
            descriptors = committed("HEAD^")
        if descriptors is None:
            print("no earlier contract to compare with")
            return
        before.write_bytes(descriptors)
        run(tool("buf"), "breaking", "protos", "--against", before)


def main() -> None:
    parser = argparse.ArgumentParser(prog="tools.protos", description=__doc__.split("\n")[0])
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help="fail when generated/ is not fresh")
    mode.add_argument("--breaking", action="store_true", help="fail when clients would break")
    arguments = parser.parse_args()
    if arguments.breaking:
        breaking()
        return
    if not arguments.check:
        for copy, original in google_protos().items():
            shutil.copyfile(original, ROOT / copy)
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        generate(fresh)
        if arguments.check:
            check(fresh)
        else:
            install(fresh)


if __name__ == "__main__":
    main()
