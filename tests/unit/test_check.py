from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_style_types_and_the_walls_between_the_rooms_hold() -> None:
    checked = subprocess.run([ROOT / "scripts" / "check"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
