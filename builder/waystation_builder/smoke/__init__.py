"""The smoke run: the executable is run once, as nobody, in a root like the one that it will get."""

from waystation_builder.smoke.profile import NOMAD_EXEC, PROFILES, Profile
from waystation_builder.smoke.trial import Trial, try_out, user_namespaces_allowed

__all__ = ["NOMAD_EXEC", "PROFILES", "Profile", "Trial", "try_out", "user_namespaces_allowed"]
