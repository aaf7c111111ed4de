"""The report on finished runs, their figures beside the paper's."""
