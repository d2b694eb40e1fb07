"""Recordings of robots on grounds, and the samples cut from them."""
