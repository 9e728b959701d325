"""Part of the build backend (pyproject.toml): compiles the encoder's int8 kernels, and writes down the revision."""

from __future__ import annotations

import os
import platform
import runpy
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = Path("src", "trireme")
FOLDER = PACKAGE / "encode" / "kernels"
REVISION = PACKAGE / "observe" / "revision.py"
COMMON = (
    "-O3",
    "-std=c++17",
    "-fPIC",
    "-shared",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
)
# Both only where both can be made: the engine picks one by the processor.
VARIANTS = {
    "plain.so": (),
    "vnni.so": ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vnni", "-mfma"),
}


class KernelsHook(BuildHookInterface):  # type: ignore[type-arg]
    """Without a compiler the package is built without the kernels, and says so."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Puts the libraries beside their sources and into the wheel."""
        if self.target_name != "wheel":
            return
        self._write_revision(build_data)
        folder = Path(self.root) / FOLDER
        compiler = shutil.which(os.environ.get("CXX", "c++"))
        try:
            if compiler is None or platform.machine() not in ("x86_64", "AMD64"):
                raise OSError("no C++ compiler for x86-64")
            for name, flags in VARIANTS.items():
                # A library that a server has loaded must not change under it.
                made = folder / f".{name}.new"
                command = [compiler, *COMMON, *flags, str(folder / "encoder.cpp"), "-o", str(made)]
                subprocess.run(command, check=True)
                made.replace(folder / name)
        except (OSError, subprocess.CalledProcessError) as error:
            # One of another source would misread what Python hands over.
            for name in VARIANTS:
                (folder / name).unlink(missing_ok=True)
            self.app.display_warning(f"the encoders' engine vnni is left out: {error}")
            return
        build_data["artifacts"] += [str(FOLDER / name) for name in VARIANTS]
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def _write_revision(self, build_data: dict[str, Any]) -> None:
        """Into the wheel, which has no checkout: that of SOURCE_REVISION in the environment, or of .git."""
        git = runpy.run_path(str(Path(self.root) / REVISION))
        found = os.environ.get("SOURCE_REVISION", "") or git["read_head"](Path(self.root) / ".git")
        path = PACKAGE / git["REVISION_FILE"]
        # Without one, that of an earlier build would be wrong.
        (Path(self.root) / path).unlink(missing_ok=True)
        if found:
            (Path(self.root) / path).write_text(found + "\n", encoding="utf-8")
            build_data["artifacts"].append(str(path))
