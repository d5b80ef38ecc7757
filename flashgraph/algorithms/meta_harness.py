"""Meta-Harness: a coding agent proposes programs around a model, and every one of them is archived.

    start -------------+
                       v
    archive --> iterate --> propose --> validate --> learn --> ready --> predict --> archive
                               |           |                     |
                               +-----------+------> archive <----+   (failures and their reasons)

`start` emits the baselines. In each iteration, `propose` lets the agent read the archive and write programs. `validate`
imports a program, `learn` shows it the training samples of one data set, and `predict` lets it answer the validation
samples. The archive keeps its scores and the characters that it sent to the model.

The artifact is a program with the interface of `flashgraph.parts.meta_harness.INTERFACE`. It runs only in a sandbox and
never sees the answers: flashgraph scores its predictions and counts its context outside. The policies on the edges
apply only where work overlaps. `lockstep` is the published loop: baselines, then iterations of propose, validate,
evaluate, archive.
"""

import attrs
from attrs.validators import ge

import flashgraph as fg
from flashgraph.parts import Work
from flashgraph.parts.meta_harness import (
    DRIVER,
    Checked,
    FailedProgram,
    HarnessArchive,
    LearnedState,
    Lesson,
    Meter,
    Prediction,
    Program,
    Question,
    Trained,
    baselines,
    dataset_of,
    datasets,
    hopeless,
    identity,
    lesson,
    propose_programs,
    require_datasets,
    same_harness,
)
from flashgraph.sandbox import CandidateFailed, Sandbox, SandboxLimits


@attrs.frozen
class Params:
    """The parameters."""

    candidates: int = attrs.field(default=3, validator=ge(1))
    turns: int = attrs.field(default=8, validator=ge(1))
    overlap: int = attrs.field(default=1, validator=ge(1))


graph = fg.Graph("meta_harness", doc=__doc__, params=Params)
archive = graph.pool("archive", HarnessArchive)
sandbox = graph.resource("sandbox", Sandbox)


@attrs.frozen
class Iteration:
    """One iteration of the search, counted from 1; ``focused`` if it starts from the best program."""

    number: int
    focused: bool = False


@graph.source
def start(ctx: fg.Draw) -> Program | None:
    """Emit one baseline a round; a task that is not made for harness programs ends the run before any cost."""
    if ctx.emission == 0:
        require_datasets(ctx.task)
    programs = baselines(ctx.task)
    return programs[ctx.emission] if ctx.emission < len(programs) else None


@graph.source(reads=archive)
def iterate(ctx: fg.Draw[HarnessArchive, Params]) -> Iteration | None:
    """Emit the next iteration once every baseline was tried, while fewer than ``overlap`` iterations are open.

    Iterations that start from the same archive learn nothing from each other.
    """
    ctx.no_parents()
    if len(ctx.view.entries) < len(baselines(ctx.task)) or len(ctx.open) >= ctx.params.overlap:
        return None
    return Iteration(ctx.emission + 1, ctx.view.line is not None)


@graph.stage(model="proposer", counts="proposals", reads=archive)
async def propose(iteration: Iteration, ctx: fg.Context[HarnessArchive, Params]) -> fg.Several[Program | FailedProgram]:
    """Let the proposer read programs, scores and failures, and write new programs; writing none is a failure too.

    The entries that it read are the parents of its programs.
    """
    found = await propose_programs(
        ctx.llm,
        ctx.view.best_line() if iteration.focused else ctx.view,
        ctx.task,
        number=iteration.number,
        turns=ctx.params.turns,
        candidates=ctx.params.candidates,
    )
    ctx.parents(*found.read)
    return fg.Several(found.results)


@graph.stage(reads=archive)
async def validate(program: Program, ctx: fg.Context[HarnessArchive]) -> Checked | FailedProgram:
    """Import the program and check its interface; reject one that is already in the archive."""
    ctx.no_parents()
    itself = identity(program.code)
    known = ctx.view.known(itself)
    if known is not None:
        return FailedProgram(program.origin, "validate", f"the same program as #{known.id}", program.code, ctx.lag)
    try:
        await ctx[sandbox].run(program.code, "check", driver=DRIVER)
    except CandidateFailed as error:
        return FailedProgram(program.origin, "validate", str(error), program.code, ctx.lag)
    return Checked(program.origin, program.code, itself, tuple(datasets(ctx.task, "val")), ctx.lag)


@graph.stage(model="task")
async def learn(work: Lesson, ctx: fg.Context) -> LearnedState:
    """Let the program learn from all training samples of one data set."""
    try:
        return LearnedState(work.dataset, await taught(work.code, work.dataset, ctx))
    except CandidateFailed as error:
        return LearnedState(work.dataset, failure=str(error))


@graph.stage(reads=archive)
def ready(group: fg.Group[Checked, LearnedState], ctx: fg.Context[HarnessArchive]) -> Trained | FailedProgram:
    """Pass a program on once it learned on every data set."""
    ctx.no_parents()
    program = group.origin
    failures = [f"{work.dataset}: {work.failure}" for work in group.values if work.failure]
    failures += [f"{program.datasets[m.index]}: {m.reason}" for m in group.members if m.state != "arrived"]
    if failures:
        return FailedProgram(program.origin, "learn", "\n".join(failures), program.code, program.lag)
    states = {work.dataset: work.state for work in group.values}
    return Trained(program, states, datasets(ctx.task, "val"), ctx.view.rivals(), ctx.task.bounds)


@graph.stage(model="task", counts="evaluations")
async def predict(work: Work, ctx: fg.Context) -> Prediction:
    """Let the program answer one sample, then score the answer and count its context outside of the sandbox.

    The held-out test uses this stage too: its text holds no state, and neither does the task's seed, so it learns
    first.
    """
    sample = ctx.task.samples(work.split)[work.index]
    name, code = dataset_of(ctx.task, sample), work.text["program"]
    question = work if isinstance(work, Question) else None
    state = work.text.get(f"state:{name}")
    if state is None:
        state = await taught(code, name, ctx)
    meter = Meter(ctx.llm)
    given = {"input": str(sample), "state": state}
    try:
        ran = await ctx[sandbox].run(code, "predict", given, driver=DRIVER, llm=meter)
    except CandidateFailed as error:
        if question is None:
            raise
        return Prediction(
            name, work.index, ctx.task.least, "", meter.characters, meter.calls, str(error), question.stakes
        )
    answer, score, failure = str(ran.value), ctx.task.least, ""
    try:
        score = (await ctx.task.judge(sample, answer, ctx.llm)).value
    except Exception as error:
        # A candidate may answer anything. But if the task's own program cannot be scored, the task is wrong.
        if question is None or code == ctx.task.seed["program"]:
            raise
        failure = f"its answer cannot be scored: {type(error).__name__}: {error}"
    return Prediction(
        name, work.index, score, answer, meter.characters, meter.calls, failure, question.stakes if question else None
    )


async def taught(code: str, dataset: str, ctx: fg.Context) -> str:
    """Return the state of a program that learned from the training samples of a data set."""
    batch = await lesson(ctx.task, dataset)
    limits = SandboxLimits(cpu_seconds=60, wall_seconds=120, llm_calls=max(64, 8 * len(batch)))
    ran = await ctx[sandbox].run(code, "learn", {"batch": batch}, driver=DRIVER, llm=ctx.llm, limits=limits)
    return str(ran.value)


@graph.costs
def costs(ctx: fg.Draw[None, Params]) -> fg.Costs:
    """Count the evaluations of the baselines, and of one to all programs of an iteration."""
    return fg.Costs(least=len(ctx.task.val), seeds=len(baselines(ctx.task)), children=ctx.params.candidates)


graph.edge(start, validate)
graph.edge(iterate, propose, stale=fg.refresh())
graph.edge(propose, validate, only=Program, stale=fg.refresh())
graph.edge(propose, archive, only=FailedProgram)
graph.edge(validate, learn, only=Checked, scatter=Checked.lessons, distinct=same_harness)
graph.edge(validate, archive, only=FailedProgram)
graph.edge(learn, ready, gather=True)
graph.edge(ready, predict, only=Trained, scatter=Trained.questions)
graph.edge(ready, archive, only=FailedProgram)
graph.edge(predict, archive, gather=True, release=fg.decided(hopeless), late="cancel")
graph.tests_with(predict)
