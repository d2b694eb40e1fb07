"""Policies that are told robot and terrain: training, evaluation, export."""
