"""`python -m rlcomm`."""

import sys

from rlcomm.cli import main

sys.exit(main())
