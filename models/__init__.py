"""Networks; nothing here knows of physics, files or losses."""
