"""The entry point of ``python -m tests.proof``: see `tests.proof.proof`."""

from __future__ import annotations

import sys

from tests.proof.proof import main

if __name__ == "__main__":
    sys.exit(main())
