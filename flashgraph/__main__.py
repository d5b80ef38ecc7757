"""``python -m flashgraph``: the command line."""

from flashgraph.cli import main

if __name__ == "__main__":
    main()
