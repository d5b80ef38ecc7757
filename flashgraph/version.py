"""The version of flashgraph; in a module of its own, so that runs record it without importing the whole package."""

VERSION = "0.1.0"
