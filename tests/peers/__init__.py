"""The real peers of the tests: MinIO, go-getter, toxiproxy, a counting relay; started, ready by probe, stopped."""
