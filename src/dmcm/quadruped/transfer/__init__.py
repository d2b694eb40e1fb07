"""From simulation to a robot outside it: walking by a vector from its log on flat ground."""
