"""Writes config.pbtxt of every model folder from its recipe.toml, or says which are out of date."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from trireme.artifacts.config_writer import config_files, place_config
from trireme.artifacts.machine_config import place_machine_configs
from trireme.artifacts.repository import list_recipes
from trireme.errors import TriremeError
from trireme.machine import read_machine


def main() -> int:
    """Returns the exit code: 1 when --check found a difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    parser.add_argument(
        "--machine",
        action="store_true",
        help="write configs/machine.pbtxt for this machine's cores, for tritonserver --model-config-name=machine",
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file would change")
    options = parser.parse_args()
    if options.machine:
        has_any = place_machine_configs(options.repository, read_machine().cores)
        print("written" if has_any else "config.pbtxt fits this machine: nothing to write")
        return 0
    stale = 0
    for recipe in list_recipes(options.repository):
        folder = options.repository / recipe.model
        for name, content in config_files(recipe).items():
            path = folder / name
            if not path.is_file() or path.read_bytes() != content:
                stale += 1
                print(f"{'out of date' if options.check else 'written'}: {path}")
        if not options.check:
            place_config(folder, recipe)
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except TriremeError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
