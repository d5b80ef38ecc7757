"""Tasks: samples, attempts and scores; reading data; metrics."""

from flashgraph.tasks.metrics import final_answer, json_object, last_number
from flashgraph.tasks.score import Score
from flashgraph.tasks.task import Llm, Task, least_score
from flashgraph.tasks.trace import Trace

__all__ = [
    "Llm",
    "Score",
    "Task",
    "Trace",
    "final_answer",
    "json_object",
    "last_number",
    "least_score",
]
