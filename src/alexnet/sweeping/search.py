"""Points chosen one after the other, each from what the ones before it came to (Optuna's TPE), and
trials given up early."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from alexnet.errors import AlexNetError, RecipeError, needs_extra
from alexnet.sweeping.directory import SweepDirectory
from alexnet.sweeping.results import result
from alexnet.sweeping.trial_runs import Job, Judge
from alexnet.sweeping.trials import Range, Space, Trial, plan, typed

if TYPE_CHECKING:
    import optuna

    from alexnet.fitting.loop import Epoch
    from alexnet.recipes import Recipe


class TpeSearch:
    """An Optuna study: asks for points, is told their validation accuracies.

    Its suggestions depend on the seed of the recipe, the number of the trial, and what is known by
    then: killed and begun again, one at a time, it goes the same way.
    """

    def __init__(
        self, data: str, sweep: SweepDirectory, base: "Recipe", space: Space, seeds: int, count: int
    ) -> None:
        """Args: count: trials of the study in all, those that are there included."""
        self.data, self.sweep, self.base, self.space = data, sweep, base, space
        self.seeds, self.count = seeds, count
        self.study = open_study(sweep)

    def jobs(self) -> Iterator[Job]:
        """The points of trials that were left unfinished, then new ones."""
        import optuna

        running = optuna.trial.TrialState.RUNNING
        for left in self.study.get_trials(deepcopy=False, states=[running]):
            self._seed(left.number)
            yield from self._job(optuna.trial.Trial(self.study, left._trial_id))
        while len(self.study.get_trials(deepcopy=False)) < self.count:
            self._seed(len(self.study.get_trials(deepcopy=False)))
            yield from self._job(self.study.ask())

    def tell(self, job: Job) -> None:
        """Hands in what a job came to."""
        import optuna

        results = [result(self.sweep, trial) for trial in job.trials]
        done = [one for one in results if one.status == "done"]
        scores = [one.val_top1 for one in done if one.val_top1 is not None]  # 0 is a score too
        state, value = optuna.trial.TrialState.COMPLETE, None
        if len(scores) == len(results):
            value = sum(scores) / len(scores)
        elif any(one.status == "pruned" for one in results):
            state = optuna.trial.TrialState.PRUNED
        else:
            state = optuna.trial.TrialState.FAIL
        self.study.tell(job.number, value, state)

    def trials(self) -> list[Trial]:
        """All trials that were asked for, in order."""
        asked = []
        for one in self.study.get_trials(deepcopy=False):
            point = {name: chosen(self.space[name], value) for name, value in one.params.items()}
            if "trials" in one.user_attrs:
                asked += plan(self.base, [typed(point)], seeds=self.seeds)
        return list({trial.name: trial for trial in asked}.values())

    def _seed(self, number: int) -> None:
        import optuna

        self.study.sampler = optuna.samplers.TPESampler(seed=self.base.seed * 100_003 + number)

    def _job(self, trial: "optuna.trial.Trial") -> Iterator[Job]:
        import optuna

        point = {name: suggest(trial, name, values) for name, values in self.space.items()}
        try:
            trials = plan(self.base, [typed(point)], seeds=self.seeds)
        except RecipeError as error:  # a combination that no recipe allows
            trial.set_user_attr("reason", error.message)
            self.study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            return
        trial.set_user_attr("trials", [one.name for one in trials])
        yield Job(self.data, self.sweep, tuple(trials), self.sweep.draw, trial.number)


def open_study(sweep: SweepDirectory) -> "optuna.Study":
    """The study of a sweep, made where there is none.

    Raises:
        InputError: Optuna is not installed.
    """
    with needs_extra("--search tpe", "search"):
        import optuna
        from sqlalchemy.pool import NullPool
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.create_study(
            storage=optuna.storages.RDBStorage(
                f"sqlite:///{sweep.study.resolve()}",
                # each connection is closed after use: the file stays open to nobody
                engine_kwargs={"poolclass": NullPool},
            ),
            study_name="sweep",
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=2),
        )
    except Exception as error:  # of SQLAlchemy, of many kinds
        raise AlexNetError(
            f"{sweep.study} cannot be opened ({type(error).__name__}).",
            "Is it on a disk that can be written? A damaged one can be deleted: finished trials "
            "stay.",
        ) from error


def suggest(trial: "optuna.trial.Trial", name: str, values: list[Any] | Range) -> Any:
    """A value for a field. Optuna knows plain values only; several numbers go as text."""
    if isinstance(values, Range):
        if values.whole:
            return trial.suggest_int(name, int(values.low), int(values.high), log=values.log)
        drawn = trial.suggest_float(name, values.low, values.high, log=values.log)
        return chosen(values, drawn)
    return chosen(values, trial.suggest_categorical(name, [shown(one) for one in values]))


def shown(value: Any) -> Any:
    """A listed value as Optuna keeps it."""
    return "/".join(map(str, value)) if isinstance(value, tuple) else value


def chosen(values: list[Any] | Range, kept: Any) -> Any:
    """The value of a field that Optuna keeps as `kept`: of a range with four digits."""
    if isinstance(values, Range):
        return float(f"{kept:.4g}") if isinstance(kept, float) else kept
    return next(one for one in values if shown(one) == kept and type(shown(one)) is type(kept))


def judge_of(job: Job) -> Judge | None:
    """Whether to give up a trial, by the study it belongs to (Optuna's median rule)."""
    if job.number < 0 or len(job.trials) > 1:
        return None
    import optuna

    study = open_study(job.sweep)
    frozen = study.get_trials(deepcopy=False)[job.number]
    trial = optuna.trial.Trial(study, frozen._trial_id)
    known = set(frozen.intermediate_values)

    def judge(epoch: "Epoch") -> bool:
        if epoch.epoch not in known:
            trial.report(epoch.val_top1, epoch.epoch)
        return trial.should_prune()

    return judge
