"""Logs of a real quadruped, read by a mapping, checked, and put on the model's clock."""
