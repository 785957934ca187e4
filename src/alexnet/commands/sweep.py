"""`alexnet sweep`."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from alexnet.commands.early import look_at_data, look_at_recipe
from alexnet.commands.flags import Arg
from alexnet.commands.options import Data, LabelFlags
from alexnet.console import say
from alexnet.errors import InputError
from alexnet.presets import study
from alexnet.recipes import Recipe
from alexnet.values import Count, Whole

if TYPE_CHECKING:
    from alexnet.sweeping.trials import Point, Space


@dataclass(kw_only=True)
class Sweep(LabelFlags):
    """Train many recipes on DATA, choose on validation, and say what is signal and what is noise.

    Trials that differ only in learning rate, momentum, weight decay or schedule train side by side
    on cached features. The same command goes on where an earlier one was stopped.
    """

    MOST_USED: ClassVar = frozenset(
        "grid seeds random search trials study jobs dry_run recipe config out model weights freeze "
        "image_size bad_images batch_size epochs optimizer lr device seed".split()
    )

    data: Data
    # A field and its values, such as lr=0.1,0.01, or with --random and --search tpe their range,
    # such as lr=0.001..0.1; give it once for each field. Any field of the recipe can be swept.
    grid: Annotated[list[str], Arg(again=True)] = dataclasses.field(default_factory=list)
    # How many seeds for each point of the grid.
    seeds: Count = 1
    # So many points of the grid, drawn at random, instead of all. 0: all.
    random: Whole = 0
    # grid: every combination. tpe: Optuna chooses each point from what the ones before came to, and
    # gives up trials that fall behind (extra "search").
    search: Literal["grid", "tpe"] = "grid"
    # How many points --search tpe tries.
    trials: Count = 50
    # A named sweep instead of --grid; see `alexnet recipes`. It brings its data,
    # recipe and seeds along.
    study: str = ""
    # Refuse more trials than these.
    max_trials: Count = 200
    # How many trainings at once, each in a process of its own.
    jobs: Count = 1
    # Train each trial with so many processes of one machine, which share each batch.
    nproc: Count = 1
    # Train on a Ray cluster: its address, or local (extra "ray"); --jobs says how many at once.
    ray: str = ""
    # Only list the trials, estimate how long they will take, and say which gap they can show.
    dry_run: bool = False
    # The named recipe whose values are the defaults of all flags below; see `alexnet recipes`.
    # [default: suits the data]
    recipe: Annotated[str, Arg(metavar="NAME")] = ""
    # A run directory, to begin with its recipe; or a .toml or .json file of fields, which amend the
    # recipe. Flags amend both.
    config: Annotated[str, Arg(metavar="RUN|FILE")] = ""
    # The sweep directory. [default: one below runs/, named after the sweep]
    out: str = ""
    fields: Recipe = dataclasses.field(default_factory=Recipe)

    def run(self) -> None:
        from alexnet.sweeping.trials import parse_space, require_used, study_points

        require_used(self.search, self.random, self.trials)
        if self.study and self.grid:
            raise InputError("--study and --grid both say what to sweep.", "Leave one out.")

        space: Space | Sequence[Point]
        space = study_points(study(self.study)) if self.study else parse_space(self.grid)
        if not space:
            raise InputError("there is nothing to sweep.", "Example: --grid lr=0.1,0.01,0.001")
        look_at_recipe(self.fields)
        data = self.address_of(self.data)
        look_at_data(data)
        if self.dry_run:
            self._list_trials(data, space)
            return
        from alexnet.runtime import keep_memory
        from alexnet.sweeping.sweep import sweep

        keep_memory()
        print(
            sweep(
                data,
                self.fields,
                space,
                out=self.out,
                seeds=self.seeds,
                random=self.random,
                search=self.search,
                trials=self.trials,
                max_trials=self.max_trials,
                jobs=self.jobs,
                nproc=self.nproc,
                ray=self.ray,
            )
        )

    def _list_trials(self, data: str, space: "Space | Sequence[Point]") -> None:
        from alexnet.sweeping.estimates import say_what_is_planned
        from alexnet.sweeping.sweep import base_of
        from alexnet.sweeping.trials import plan, points_of, stacks, told

        if self.search == "tpe":
            raise InputError(
                "--search tpe chooses each point from the ones before it, so none can be listed.",
                "Leave out --dry-run.",
            )
        base, chosen = base_of(data, self.fields, space, self.out)
        points = points_of(space, self.random, base.seed)
        groups = stacks(plan(base, points, seeds=self.seeds, max_trials=self.max_trials))
        for trial in (trial for group in groups for trial in group):
            print(f"{trial.name}  {told(trial.settings)}")
        if chosen:
            say(chosen)
        say_what_is_planned(data, groups, self.jobs)
