"""Every metric, declared here and nowhere else: prefix ``waystation_``, base units, bounded labels."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest

_SECONDS = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0, 300.0)


class Metrics:
    """One daemon's metrics, in a registry of their own; passed to each part by its constructor."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()

        self.requests = Counter(
            "waystation_requests",
            "Requests answered by the mirror.",
            ("route", "code", "cache", "reason"),
            registry=registry,
        )
        self.request_seconds = Histogram(
            "waystation_request_seconds",
            "Time from a request's headers to the last byte of its answer.",
            ("route", "cache"),
            buckets=_SECONDS,
            registry=registry,
        )
        self.first_byte_seconds = Histogram(
            "waystation_first_byte_seconds",
            "Time from a request's headers to the first byte of its answer.",
            ("cache",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.served_bytes = Counter(
            "waystation_served_bytes", "Bytes of bodies sent to clients.", ("cache",), registry=registry
        )

        self.connections = Gauge("waystation_connections", "Connections of clients that are open.", registry=registry)
        self.connection_waits = Counter(
            "waystation_connection_waits",
            "How often a client waited for room, because [mirror] max_connections were open.",
            registry=registry,
        )
        self.connections_unused = Counter(
            "waystation_connections_unused",
            "Connections closed while nothing was asked on them, by the limit of [mirror] that did it.",
            ("limit",),
            registry=registry,
        )
        self.tls_handshakes = Counter(
            "waystation_tls_handshakes",
            "TLS handshakes of clients, by how they ended.",
            ("outcome",),
            registry=registry,
        )
        self.tls_certificate_expiry = Gauge(
            "waystation_tls_certificate_expiry_timestamp_seconds",
            "When the certificate that clients are shown expires, or one of its issuers' before; 0: there is none.",
            registry=registry,
        )

        self.origin_requests = Counter(
            "waystation_origin_requests", "Requests to the origin.", ("op", "outcome"), registry=registry
        )
        self.origin_bytes = Counter(
            "waystation_origin_bytes", "Bytes of bodies read from the origin.", registry=registry
        )
        self.origin_up = Gauge(
            "waystation_origin_up", "1 while the origin answers, 0 while its circuit is open.", registry=registry
        )

        self.flights = Gauge("waystation_flights", "Transfers that are running or queued.", registry=registry)
        self.flight_seconds = Histogram(
            "waystation_flight_seconds", "Time from a flight's start to its end.", buckets=_SECONDS, registry=registry
        )
        self.flight_retries = Counter(
            "waystation_flight_retries", "Ranges asked for again.", ("reason",), registry=registry
        )
        self.verification_failures = Counter(
            "waystation_verification_failures",
            "Bytes or checksums that are not what the catalog said.",
            ("where",),
            registry=registry,
        )
        for where in ("origin", "store", "catalog"):
            self.verification_failures.labels(where)  # from the start: an alert sees the first increase
        self.verified_bytes = Counter("waystation_verified_bytes", "Bytes hashed.", ("where",), registry=registry)
        self.verify_seconds = Counter(
            "waystation_verify_seconds", "Time spent hashing, summed over threads.", ("where",), registry=registry
        )

        self.store_bytes = Gauge(
            "waystation_store_bytes", "Bytes of blobs and spool, with what running flights reserved.", registry=registry
        )
        self.store_limit_bytes = Gauge(
            "waystation_store_limit_bytes", "The quota, [store] max_size.", registry=registry
        )
        self.store_free_bytes = Gauge(
            "waystation_store_free_bytes", "Free bytes of the store's filesystem.", registry=registry
        )
        self.store_blobs = Gauge("waystation_store_blobs", "Blobs in the store.", registry=registry)
        self.store_pinned_bytes = Gauge(
            "waystation_store_pinned_bytes", "Bytes of blobs that are never evicted.", registry=registry
        )
        self.store_oldest_idle_seconds = Gauge(
            "waystation_store_oldest_idle_seconds",
            "How long the least recently used blob has not been used: short means the quota is too small.",
            registry=registry,
        )
        self.evictions = Counter("waystation_evictions", "Blobs and partials evicted.", ("reason",), registry=registry)
        for reason in ("quota", "min_free", "partial", "operator"):
            self.evictions.labels(reason)
        self.evicted_bytes = Counter("waystation_evicted_bytes", "Bytes evicted.", registry=registry)

        self.quarantined_blobs = Gauge(
            "waystation_quarantined_blobs",
            "Files of the store that were set aside as rotten or strange.",
            registry=registry,
        )
        self.scrubbed_bytes = Counter(
            "waystation_scrubbed_bytes", "Bytes of blobs read again by the scrub.", registry=registry
        )
        self.scrub_oldest_verification_seconds = Gauge(
            "waystation_scrub_oldest_verification_seconds",
            "How long ago the blob was checked that was not checked for longest: to stay below [store] scrub_interval.",
            registry=registry,
        )

        self.reloads = Counter(
            "waystation_config_reloads",
            "Times that the running daemon read its configuration again, by what came of it.",
            ("outcome",),
            registry=registry,
        )
        self.prefetch = Counter(
            "waystation_prefetch",
            "Targets that prefetching tried to fetch, by what came of it.",
            ("outcome",),
            registry=registry,
        )
        self.prefetch_queue_length = Gauge(
            "waystation_prefetch_queue_length", "Targets that wait to be prefetched.", registry=registry
        )
        self.prefetch_lag_seconds = Gauge(
            "waystation_prefetch_lag_seconds",
            "For how long the oldest wanted target that is not here has been published, or lost; 0: all are here.",
            registry=registry,
        )
        self.wanted_targets = Gauge(
            "waystation_wanted_targets",
            "Targets that should be here, by whether they are.",
            ("state",),
            registry=registry,
        )

        self.catalog_targets = Gauge("waystation_catalog_targets", "Targets that the catalog knows.", registry=registry)
        self.catalog_last_refresh = Gauge(
            "waystation_catalog_last_refresh_timestamp_seconds",
            "When the origin last answered the catalog.",
            registry=registry,
        )
        self.admin_requests = Counter(
            "waystation_admin_requests", "Calls on the admin socket.", ("verb", "reason"), registry=registry
        )
        self.task_failures = Counter(
            "waystation_task_failures",
            "How often a task of the daemon's own fell over a fault that nobody foresaw, and was begun again.",
            ("task",),
            registry=registry,
        )
        self.recovery_seconds = Gauge(
            "waystation_recovery_seconds", "Time from start to knowing the store's content.", registry=registry
        )
        self.build_info = Info("waystation_build", "The version of Waystation and of Python.", registry=registry)

    def render(self) -> bytes:
        """Write all metrics in Prometheus' text format."""
        return generate_latest(self.registry)
