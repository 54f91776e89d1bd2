"""`waystation show`: what the catalog says of one target."""

import typer

from waystation.cli.entry import PLAIN
from waystation.cli.looking import look_up
from waystation.cli.options import AsJson, ConfigFile, Overrides, Target, read_settings
from waystation.cli.output import print_json, print_text
from waystation.cli.running import run_verb
from waystation.config import human_size
from waystation.pieces import piece_count

app = typer.Typer(**PLAIN)


@app.command()
def show(*, target: Target, config: ConfigFile = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Show what TARGET must be: its size, sha256 and pieces."""
    artifact = run_verb(look_up(read_settings(config, overrides), target))
    tree = artifact.pieces
    if as_json:
        print_json(
            {
                "target": artifact.target,
                "sha256": artifact.digest,
                "size_bytes": artifact.size_bytes,
                "modified": artifact.modified.isoformat(),
                "key": artifact.key,
                "etag": artifact.etag,
                "pieces": tree and {"root": tree.root.hex(), "piece_length": tree.piece_length},
            }
        )
        return
    pieces = "none: served only once the whole is verified; `waystation adopt` adds them"
    if tree:
        count = piece_count(artifact.size_bytes, tree.piece_length)
        pieces = f"{count} of {human_size(tree.piece_length)}, root {tree.root.hex()}"
    print_text(
        [
            ("target", artifact.target),
            ("sha256", artifact.digest),
            ("size", f"{human_size(artifact.size_bytes)} ({artifact.size_bytes} bytes)"),
            ("modified", artifact.modified.isoformat()),
            ("pieces", pieces),
        ]
    )
