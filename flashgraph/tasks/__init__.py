"""Tasks: samples, attempts and scores; reading data; metrics."""
