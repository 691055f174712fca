"""Compiles the modules that pyproject.toml lists under `compiled`, when a wheel is built with HATCH_BUILD_HOOKS_ENABLE=1."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompiledModules(BuildHookInterface):
    """Puts a compiled twin beside each listed module; Python then imports the twin."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and have what comes out included; an editable installation stays as it is."""
        if version == "editable":
            return
        self._directory = tempfile.TemporaryDirectory()
        built = Path(self._directory.name)
        _compile(self.config["compiled"], built)
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["force_include"] |= {str(path): str(path.relative_to(built)) for path in built.rglob("*.so")}

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Remove what the wheel now contains."""
        if version != "editable":
            self._directory.cleanup()


def _compile(modules: list[str], built: Path) -> None:
    """Compile modules, given by their paths below the working directory, into a folder laid out like the wheel."""
    from mypyc.build import mypycify  # brought by the hook's dependencies, which a plain build does not have
    from setuptools import Distribution

    with tempfile.TemporaryDirectory() as scratch:
        extensions = mypycify(modules, opt_level="3", debug_level="0", group_name="wait_for_me", target_dir=scratch)
        command = Distribution({"name": "compiled", "ext_modules": extensions}).get_command_obj("build_ext")
        command.build_lib, command.build_temp = str(built), scratch
        command.ensure_finalized()
        command.run()
