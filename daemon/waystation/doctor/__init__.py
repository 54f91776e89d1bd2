"""The checks of a machine: is it fit for a Waystation, and what to do where it is not."""

from waystation.doctor.examination import examine_configuration, examine_machine, examine_needs
from waystation.doctor.finding import Finding, Level, worst

__all__ = ["Finding", "Level", "examine_configuration", "examine_machine", "examine_needs", "worst"]
