"""Speed, measured: each script prints one JSON line."""
