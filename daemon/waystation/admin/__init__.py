"""The face that may change things: HTTP on a Unix socket, never over TCP."""
