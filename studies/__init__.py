"""The studies whose figures the pages cite, each with its command at its top."""
