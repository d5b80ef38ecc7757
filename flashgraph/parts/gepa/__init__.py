"""What GEPA alone needs: its pool and its merge."""
