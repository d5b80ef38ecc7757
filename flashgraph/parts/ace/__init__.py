"""ACE's playbook (arXiv 2510.04618) as an immutable pool: bullets with counters, changed by small operations.

- `bullets`: a bullet, its line, and the text format of a whole playbook
- `operations`: the values that the pool admits: a start, tags, deltas of operations, merges of near-duplicates
- `budget`: which bullets to evict from a text that is too long
- `pool`: the pool itself
- `replies`: tolerant reading of the JSON replies of generator, reflector and curator
- `similarity`: how alike two texts are: lexically, or by an embedding model
"""

from flashgraph.parts.ace.bullets import Bullet, digest
from flashgraph.parts.ace.operations import Alike, Delta, Merged, Operation, PlaybookStart, RefusedOperation, Tag, Tags
from flashgraph.parts.ace.pool import Playbook, read_playbook
from flashgraph.parts.ace.prompts import curate_prompt, generate_prompt, merge_prompt, reflect_prompt
from flashgraph.parts.ace.replies import parse_answer, parse_operations, parse_tags
from flashgraph.parts.ace.similarity import Similarity, embedding, lexical, similarity_named

__all__ = [
    "Alike",
    "Bullet",
    "Delta",
    "Merged",
    "Operation",
    "Playbook",
    "PlaybookStart",
    "RefusedOperation",
    "Similarity",
    "Tag",
    "Tags",
    "curate_prompt",
    "digest",
    "embedding",
    "generate_prompt",
    "lexical",
    "merge_prompt",
    "parse_answer",
    "parse_operations",
    "parse_tags",
    "read_playbook",
    "reflect_prompt",
    "similarity_named",
]
