"""Policies that are given vectors of robot and terrain: training, evaluation, export."""
