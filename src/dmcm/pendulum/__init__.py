"""Domain: driven pendulums. Three factors, and a truth that is no product of functions of them."""
