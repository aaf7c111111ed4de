"""What the task scripts share besides networks and operators."""
