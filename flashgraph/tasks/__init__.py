"""Tasks: samples, attempts and scores; reading data; metrics."""

from flashgraph.tasks.metrics import final_answer, json_object, last_number
from flashgraph.tasks.task import Llm, Score, Task, least_score

__all__ = [
    "Llm",
    "Score",
    "Task",
    "final_answer",
    "json_object",
    "last_number",
    "least_score",
]
