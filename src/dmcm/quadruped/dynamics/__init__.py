"""Models that predict how a robot moves on a ground, with a vector for each: methods, measures, report."""
