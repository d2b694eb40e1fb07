"""The robot itself: published facts as a table, and what differs between robots of a kind."""
