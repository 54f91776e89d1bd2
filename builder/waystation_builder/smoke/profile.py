"""The roots that an executable can be tried in: what lies in them, by folder."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Profile:
    """A root: folders of this machine, read-only, beside those that every root has."""

    name: str
    folders: tuple[str, ...]
    """Where one does not exist here, it does not exist there."""

    @property
    def search_path(self) -> tuple[str, ...]:
        """The folders in which programs are looked for."""
        return ("/usr/local/bin", "/usr/bin", "/bin") if self.folders else ()


NOMAD_EXEC = Profile(
    "nomad-exec",
    ("/bin", "/etc", "/lib", "/lib32", "/lib64", "/run/resolvconf", "/run/systemd/resolve", "/sbin", "/usr"),
)
"""What Nomad's exec driver puts into a task's root (its client's `chroot_env`, as it is by default)."""
EMPTY = Profile("empty", ())
"""Nothing of this machine, as for a static executable."""
PROFILES = {profile.name: profile for profile in (NOMAD_EXEC, EMPTY)}
