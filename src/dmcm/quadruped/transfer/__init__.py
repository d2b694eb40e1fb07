"""From simulation to a robot that is in no simulator: walking by a vector from its log on flat ground."""
