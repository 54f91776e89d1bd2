"""What systemd and the daemon tell each other: sockets that are passed, and how the daemon is."""
