"""`scripts/package`: a wheel, a .deb and an .rpm of this commit, their bill of materials, licences and checksums."""

from __future__ import annotations

import argparse
from pathlib import Path

from packages.build import build_all
from packages.tree import ROOT


def main() -> None:
    """Build what the arguments ask for, and print the path of each file made."""
    parser = argparse.ArgumentParser(prog="scripts/package", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="the folder to write to (default: dist)")
    parser.add_argument(
        "--python",
        default="/usr/bin/python3",
        help="an interpreter of the same version as the distribution's where the packages are installed, or a version "
        "for uv to find (default: /usr/bin/python3)",
    )
    parser.add_argument("--release", type=int, default=1, help="the packages' own revision (default: 1)")
    parser.add_argument(
        "--keep-tree", type=Path, metavar="DIR", help="leave the files as they will be installed in DIR"
    )
    options = parser.parse_args()
    for made in build_all(options.out.resolve(), options.python, release=options.release, keep=options.keep_tree):
        print(made)  # noqa: T201 - what a caller reads


if __name__ == "__main__":
    main()
