"""Why nothing was built, or why what was built is not published; each knows its reason and one sentence of advice."""

from __future__ import annotations

from waystation.publish import WaystationError


class BuildError(WaystationError):
    """There is no executable that could be published."""

    reason = "build"


class NothingToBuild(BuildError):
    """No bundler knows what to do with the folder."""

    reason = "nothing_to_build"
    advice = (
        "Give a folder with a flake.nix, default.nix, pyproject.toml, go.mod or Cargo.toml, or say how it is built "
        "with --command."
    )


class Unnamed(BuildError):
    """The project does not say its name or version."""

    reason = "unnamed"


class MissingTool(BuildError):
    """A program that the build needs is not on this machine."""

    reason = "missing_tool"


class BuildFailed(BuildError):
    """The project's own build ended with an error."""

    reason = "build_failed"
    advice = "Its last lines stand above; correct the project, or the command that builds it."

    def __init__(self, message: str, *, last_lines: tuple[str, ...] = (), advice: str | None = None) -> None:
        super().__init__(message, advice=advice)
        self.last_lines = last_lines


class NotOneExecutable(BuildError):
    """The build left none, several, or something that is no regular executable file."""

    reason = "not_one_executable"


class NotReproducible(BuildError):
    """Built twice, the bytes differ."""

    reason = "not_reproducible"
    advice = "Take times, paths and random order out of the build; docs/bundlers.md says what is fixed already."


class Unrunnable(BuildError):
    """The executable can't run where it would be put."""

    reason = "unrunnable"


class WrongArchitecture(Unrunnable):
    """It is made for another machine."""

    reason = "wrong_architecture"


class MissingLibrary(Unrunnable):
    """It loads shared libraries that are not there."""

    reason = "missing_library"
    advice = "Link them statically, or bundle them: with Nix, or PyInstaller for Python; docs/bundlers.md says how."


class MissingProgram(Unrunnable):
    """It calls programs that are not there, its interpreter for one."""

    reason = "missing_program"
    advice = "Install them on every machine that is to run it, here too, or choose a bundler that needs none."


class SmokeFailed(Unrunnable):
    """Run for a try, it did not end well."""

    reason = "smoke_failed"
    advice = "Say with --smoke-args how it ends by itself with status 0, or turn the try off with --no-smoke."

    def __init__(self, message: str, *, last_lines: tuple[str, ...] = (), advice: str | None = None) -> None:
        super().__init__(message, advice=advice)
        self.last_lines = last_lines


class NoUserNamespaces(SmokeFailed):
    """It needs user namespaces, and this machine allows none."""

    reason = "no_user_namespaces"
    advice = (
        "Allow them here and where it is to run (user.max_user_namespaces, kernel.unprivileged_userns_clone, "
        "kernel.apparmor_restrict_unprivileged_userns), or build a static executable."
    )


class NoConfinement(BuildError):
    """This machine does not let us make the root that the try runs in."""

    reason = "no_confinement"
    advice = (
        "Run the builder where user namespaces are allowed (docs/builder-image.md says how in a container), or turn "
        "the try off with --no-smoke and make it elsewhere."
    )


class Unchecked(BuildError):
    """What is to be published was not built and checked here."""

    reason = "unchecked"
    advice = "Run `waystation-builder build` first; `waystation publish` publishes any file, unchecked."
