"""What a person runs to set up, measure, or rebuild a table or figure."""
