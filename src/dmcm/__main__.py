"""`python -m dmcm`."""

import sys

from dmcm.cli import main

sys.exit(main())
