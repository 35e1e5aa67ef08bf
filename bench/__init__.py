# SPDX-License-Identifier: BSD-3-Clause
"""Measurements beside rivals, in one run: `python -m bench`."""
