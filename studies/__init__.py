"""The studies whose figures the pages cite, each with its command at its top."""

import utils.environment  # noqa: F401 (before torch, whose threads it sets)
