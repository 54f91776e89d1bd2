"""The bundler for Python projects without Nix: PyInstaller makes one executable of a command and its interpreter."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from uv import find_uv_bin

from waystation_builder.bundlers.python_lock import locked_requirements
from waystation_builder.errors import BuildError, NotOneExecutable
from waystation_builder.identity import Identity, read_identity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from waystation_builder.bundlers.wishes import Wishes
    from waystation_builder.workshop import Workshop

_PYINSTALLER = Path(__file__).with_name("pyinstaller.lock")
"""PyInstaller and what it needs, pinned with hashes; its first lines say how it is written anew."""
_OWN_PYTHON = "3.12"
"""Of uv's, where no Python here will do."""
_CANDIDATES = ("python3.14", "python3.13", "python3.12", "python3.11", "python3")
_PROBE = """
import ctypes, os, sys, sysconfig
assert sys.version_info >= (3, 11)
name = sysconfig.get_config_var("INSTSONAME")
path = os.path.join(sysconfig.get_config_var("LIBDIR"), name)
ctypes.CDLL(path if os.path.exists(path) else name)
print(os.path.realpath(sys.executable))
"""
"""The bundle carries libpython, which not every Python has."""
_STAND_INS = {
    "objdump": "#!/bin/sh\nexit 0\n",
    "objcopy": '#!/bin/sh\n# objcopy --add-section pydata=ARCHIVE LOADER\ncat "${2#pydata=}" >>"$3"\n',
}
"""PyInstaller asks for binutils, which a small image lacks, for two things that need none: to check what the signature
has said already, and to add its archive to the loader, which looks for it from the file's end."""
_VERSION_VARIABLES = (
    "SETUPTOOLS_SCM_PRETEND_VERSION",  # and hatch-vcs's
    "PDM_BUILD_SCM_VERSION",
    "POETRY_DYNAMIC_VERSIONING_BYPASS",
    "UV_DYNAMIC_VERSIONING_BYPASS",
    "PBR_VERSION",
)
"""What tells the version to those build backends that would ask git for it."""
_TIMES_AND_PATHS = ("uv_*.json", "direct_url.json", "RECORD")


class PyInstaller:
    """Installs the project, as locked, into an environment of its own, and bundles one of its commands."""

    name: ClassVar[str] = "pyinstaller"
    tool: ClassVar[str | None] = None

    def __init__(self, wishes: Wishes) -> None:
        self._python = wishes.python
        self._executable = wishes.executable
        self._arguments = wishes.pyinstaller_arguments

    def claim(self, folder: Path) -> str | None:
        commands = _commands(folder)
        if not commands:
            return None
        return f"pyproject.toml names the command{'' if len(commands) == 1 else 's'} {', '.join(commands)}"

    def identify(self, workshop: Workshop) -> Identity:
        return read_identity(workshop.project)

    def build(self, workshop: Workshop, name: str, version: str) -> None:
        command = self._command(workshop.folder, name)
        environment = workshop.scratch / "environment"
        uv = find_uv_bin()
        wheel = self._wheel(workshop, uv, version)
        workshop.run([uv, "venv", "--quiet", "--no-project", "--python", self._find_python(workshop), str(environment)])
        install = [uv, "pip", "install", "--quiet", "--python", str(environment / "bin/python")]
        workshop.run([*install, "--require-hashes", "--only-binary", ":all:", "--requirements", str(_PYINSTALLER)])
        if (locked := locked_requirements(workshop, uv)) is not None:
            workshop.run([*install, "--no-deps", "--requirements", str(locked)])
        workshop.run([*install, *(["--no-deps"] if locked else []), str(wheel)])
        distribution = wheel.name.partition("-")[0]
        for pattern in _TIMES_AND_PATHS:
            for file in environment.glob(f"lib/python*/site-packages/{distribution}-*.dist-info/{pattern}"):
                file.unlink()
        self._bundle(workshop, environment, command, name, distribution)

    def _wheel(self, workshop: Workshop, uv: str, version: str) -> Path:
        """Build the project's own wheel; first of all, for this is where a project is wrong most often."""
        wheels = workshop.scratch / "wheels"
        workshop.run(
            [uv, "build", "--wheel", "--no-sources", "--out-dir", str(wheels), str(workshop.folder)],
            extra=dict.fromkeys(_VERSION_VARIABLES, version),
        )
        [wheel] = wheels.glob("*.whl")
        return wheel

    def _bundle(self, workshop: Workshop, environment: Path, command: str, name: str, distribution: str) -> None:
        work = workshop.scratch / "pyinstaller"
        extra: Mapping[str, str] = {
            "PATH": f"{_stand_ins(workshop.scratch / 'bin')}:{workshop.environment['PATH']}",
            "PYINSTALLER_CONFIG_DIR": str(workshop.scratch / "config"),
        }
        workshop.run(
            [
                str(environment / "bin/pyinstaller"),
                *("--noconfirm", "--log-level", "WARN", "--onefile", "--name", name, "--copy-metadata", distribution),
                *("--distpath", str(workshop.out), "--workpath", str(work), "--specpath", str(work)),
                *self._arguments,
                str(environment / "bin" / command),
            ],
            extra=extra,
        )

    def _command(self, folder: Path, name: str) -> str:
        commands = _commands(folder)
        wanted = self._executable or (commands[0] if len(commands) == 1 else name)
        if wanted in commands:
            return wanted
        if not commands:
            raise BuildError(
                "pyproject.toml names no command that could be bundled",
                advice="Name one under [project.scripts] or [tool.poetry.scripts].",
            )
        raise NotOneExecutable(
            f"the project has the commands {', '.join(commands)}, and none is called {wanted}",
            advice=f"Say which one with --executable, such as --executable {commands[0]}.",
        )

    def _find_python(self, workshop: Workshop) -> str:
        """Find an interpreter with its library: the builder's own, one on PATH, else uv brings one."""
        if self._python is not None:
            return self._python
        for candidate in (sys.executable, *_CANDIDATES):
            try:
                return workshop.ask([candidate, "-c", _PROBE])
            except BuildError:
                continue
        return _OWN_PYTHON


def _commands(folder: Path) -> list[str]:
    """Read the names of a project's commands, where it has a pyproject.toml that can be read."""
    try:
        data: dict[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text())
        scripts = data.get("project", {}).get("scripts") or data.get("tool", {}).get("poetry", {}).get("scripts") or {}
        return list(scripts)
    except (OSError, ValueError, AttributeError, TypeError):
        return []


def _stand_ins(folder: Path) -> Path:
    folder.mkdir()
    for name, text in _STAND_INS.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder
