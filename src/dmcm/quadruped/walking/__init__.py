"""Walking robots: a gait, an environment, the policy that corrects the gait, and its training."""
