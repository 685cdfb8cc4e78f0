"""`python -m tools.openapi DESCRIPTORS TARGET` writes the document."""

from __future__ import annotations

import sys
from pathlib import Path

from tools.openapi.document import document, dump

descriptors, target = map(Path, sys.argv[1:])
target.write_text(dump(document(descriptors.read_bytes())))
