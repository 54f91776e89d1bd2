"""What the daemon says of itself: structured log lines and every metric."""
