"""A real table: growth of two varieties of soybean in three years."""

from dmcm.growth.table import load, table

__all__ = ["load", "table"]
