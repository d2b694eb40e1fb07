"""The soybean table: leaf weight over the season in 48 plots, 2 varieties × 3 years.

412 rows, each a sampling of a plot. Columns: `plot`; `variety`, F (Forrest, a commercial variety) or P (Plant
Introduction 416937, an experimental strain); `year`, 1988 to 1990; `day` after planting; `weight_g`, average
leaf weight of a plant in g. Each pair of variety and year has 8 plots, each plot 8 to 10 samplings.

Source: Davidian and Giltinan, Nonlinear Models for Repeated Measurement Data (1995), section 1.1.3; here from
the data set `Soybean` of the R package nlme 3.1-162. This made `soybean.csv`:

    Rscript -e 's <- as.data.frame(nlme::Soybean); write.csv(with(s, data.frame(plot=Plot, variety=Variety,
        year=Year, day=Time, weight_g=weight)), "soybean.csv", row.names=FALSE, quote=FALSE)'
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from dmcm.data import FactorDataset

FACTORS = ("variety", "year")
"""Label columns."""


def table() -> Path:
    """Path of the CSV file inside the package."""
    return Path(__file__).parent / "soybean.csv"


def load(*, shots: int | None = None) -> FactorDataset:
    """The plots as tasks: input day, output `log_weight`, the natural logarithm of the weight in grams.

    The weights span three decades, and the spread between plots of one pair is proportional to the weight:
    about 0.2 in the logarithm from the first sampling to the last. Squared errors in grams would only reflect
    the last weeks.

    Args:
        shots: as in `FactorDataset.from_arrays`.
    """
    grams = FactorDataset.from_table(
        table(), task="plot", factors=FACTORS, inputs=("day",), outputs=("weight_g",), shots=shots
    )
    return dataclasses.replace(grams, y=np.log(grams.y), output_names=("log_weight",))
