"""Speed and quality against peers; run by hand, never as part of the tests."""
