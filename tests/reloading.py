"""The parts of a daemon that take up settings while it runs."""

from __future__ import annotations

from waystation.admission import Admission
from waystation.catalog.plain import PlainCatalog
from waystation.mirror.server import Mirror
from waystation.origin.opening import OriginReload
from waystation.prefetch.prefetcher import Prefetcher
from waystation.reload import LogLevel
from waystation.store.disk_store import DiskStore
from waystation.transfer.flights import Flights

PARTS = (Admission, DiskStore, Flights, LogLevel, Mirror, OriginReload, PlainCatalog, Prefetcher)
