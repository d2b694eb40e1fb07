"""An exported policy on a robot: what a robot must provide, when it is stopped, and the loop at 50 Hz."""
