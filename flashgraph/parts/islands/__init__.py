"""What island search alone needs: its pool, and programs as artifacts."""
