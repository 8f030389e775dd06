"""`python -m genmed_core.hallucinations`, and the entry point of `genmed-hallucinations`."""

import sys

from genmed_core.hallucinations.command import main

if __name__ == "__main__":
    sys.exit(main())
