"""Imported before whatever reads notebooks, whose start it makes seconds shorter.

Their schemas are checked with jsonschema. Wherever rfc3987-syntax is installed, and JupyterLab brings it along,
jsonschema has it compile a grammar at every start, for addresses in all the world's letters. No schema here has any.
"""

import sys

sys.modules.setdefault("rfc3987_syntax", None)  # as if it were not installed: jsonschema does without
