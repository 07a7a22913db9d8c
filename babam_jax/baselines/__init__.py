"""The other defenses, one file each, written from their papers."""
