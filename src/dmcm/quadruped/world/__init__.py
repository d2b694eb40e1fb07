"""Grounds, and the simulation of robots on them."""
