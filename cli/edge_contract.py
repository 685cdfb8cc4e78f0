"""The contract as the edge's transcoder sees it: `python -m cli.edge_contract SOURCE TARGET`.

What a cacheable method answers is JSON already, which its service keeps with what it remembers: to
the transcoder it is a google.api.HttpBody. The edge says so in a header, so that everybody else
gets the message of the contract (`services/kit/conditional.py`).
"""

from __future__ import annotations

import sys
from pathlib import Path

from google.api import httpbody_pb2
from google.protobuf import any_pb2, descriptor_pb2

from shop.options.v1 import access_pb2


def for_transcoder(descriptors: bytes) -> bytes:
    """A serialized FileDescriptorSet of the contract, as the transcoder is to read it."""
    contract = descriptor_pb2.FileDescriptorSet()
    for needed in (any_pb2.DESCRIPTOR, httpbody_pb2.DESCRIPTOR):  # imports come first
        needed.CopyToProto(contract.file.add())
    there = {file.name for file in contract.file}
    declared = descriptor_pb2.FileDescriptorSet.FromString(descriptors).file
    contract.file.extend(file for file in declared if file.name not in there)
    for file in contract.file:
        file.ClearField("source_code_info")  # comments, which it has no use for
        cacheable = [
            method
            for service in file.service
            for method in service.method
            if method.options.Extensions[access_pb2.cacheable]
        ]
        for method in cacheable:
            method.output_type = f".{httpbody_pb2.HttpBody.DESCRIPTOR.full_name}"
        if cacheable:
            file.dependency.append(httpbody_pb2.DESCRIPTOR.name)
    return contract.SerializeToString(deterministic=True)


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    target.write_bytes(for_transcoder(source.read_bytes()))
