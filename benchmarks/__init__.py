"""Speed and quality against peers; run by hand, never a part of the tests."""
