"""A robot's properties from its log, by simulating the log with many bodies, without learning or vectors."""
