"""Domain: driven pendulums. Three factors, and a truth that is not a product of functions of them."""
