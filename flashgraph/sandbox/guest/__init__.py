"""What runs on the other side: the warm server that forks, and the child that confines itself and runs a candidate.

Standard library only, relative imports only: inside the sandbox this folder is mounted alone, as the package
``guest``.  `wire` is the one module that the trusted side imports too.
"""
