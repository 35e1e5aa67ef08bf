# SPDX-License-Identifier: BSD-3-Clause
"""What longattn is measured beside: torch's kernels, other packages, what a user would write."""
