"""The other side: the warm server that forks, and the child that confines itself and runs a candidate.

It uses only the standard library and relative imports, because the sandbox mounts this folder alone, as the package
``guest``.  The trusted side imports only `wire` from it.
"""
