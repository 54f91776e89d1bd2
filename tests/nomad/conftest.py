"""The cases in `inside` are run by `test_nomad.py`, in namespaces and with what it built for them; never directly."""

from __future__ import annotations

import os

collect_ignore = [] if "PET_TAXI" in os.environ else ["inside"]
