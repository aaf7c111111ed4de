"""What a person runs to set up, measure, or rebuild a table or figure."""

import utils.environment  # noqa: F401 (before torch, whose threads it sets)
