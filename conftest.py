# SPDX-License-Identifier: BSD-3-Clause
"""Lets the tests see the installed package.

`python -m pytest` puts the repository's root first on the path, where a `longattn` without its
native module would hide the installed one. A root that was built in place stays.
"""

import importlib.machinery
import sys
from pathlib import Path

ROOT = Path(__file__).parent.resolve()

built_in_place = any((ROOT / "longattn").glob("_native*.so"))
elsewhere = [path for path in sys.path if Path(path or ".").resolve() != ROOT]
if not built_in_place and importlib.machinery.PathFinder.find_spec("longattn", elsewhere):
    sys.path[:] = elsewhere
