"""What a person runs to measure, to check data, and to rebuild a table or a figure."""
