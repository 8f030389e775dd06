"""`python -m genmed_core.audit`, and the entry point of `genmed-audit`."""

import sys

from genmed_core.audit.command import main

if __name__ == "__main__":
    sys.exit(main())
