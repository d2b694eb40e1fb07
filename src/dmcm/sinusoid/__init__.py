"""Domain 1: sinusoids A·sin(x − φ), the frozen protocol and the methods measured on it."""
