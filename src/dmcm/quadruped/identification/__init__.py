"""A robot's properties from its log, by simulating the log with many bodies: no learning, no vectors."""
