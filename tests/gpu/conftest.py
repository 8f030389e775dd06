"""The GPU tests share the steps and fixtures of the tests above them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
