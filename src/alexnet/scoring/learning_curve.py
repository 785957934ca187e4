"""Would more images help? Power laws through how often heads are wrong that were trained on parts
of the images, and what these laws say of more of them. Imports no torch.

Errors fall as a + b n^-c (Hestness et al., "Deep learning scaling is predictable, empirically",
2017). One law that is fitted through four points has no honest band; so every law of a grid is
weighed by how well it goes with the points and their covariance, and the forecasts of all of them
are the band. What a law leaves out is in three numbers, CROOKED, WIDER and DRAW, which were chosen
so that the band holds what it should (docs/next.md).

Shapes: N images, S sizes of parts, G laws.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BAND = 0.9  # how probable it is that the truth lies in the band
ERRORS, FLOORS, POWERS = 21, 11, 11  # laws: the error now, what of it stays, the exponent
FLATTEST, STEEPEST, STAYS = 0.2, 1.0, 0.95  # exponents; at most so much of the error stays
DEVIATIONS = 4  # of the error at the largest part, within which the error now is looked for
SURELY = 0.005  # a gain that is no gain
CROOKED = 0.02  # of an error: by so much the points lie beside a law
WIDER = 1.3  # than the covariance over images, which knows little of which ones are trained on
DRAW = 0.8  # of the variance of one image: what other images of the kind would change, times n

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Forecast:
    """Accuracies from 0 to 1, and what they gain; of the bands of 90 % the ends."""

    now: float
    now_band: tuple[float, float]
    twice: float  # with twice as many images
    twice_band: tuple[float, float]
    gain: float
    gain_band: tuple[float, float]


def forecast(right: Floats, sizes: Sequence[float] | Floats, n: float) -> Forecast:
    """What twice as many training images would come to.

    Args:
        right: (S, N) how often each image was right, from 0 to 1, with heads that were trained on
            so many others.
        sizes: (S,) how many those were, rising.
        n: how many there are now.
    """
    law, weights = weighed_laws(right, np.asarray(sizes, float) / n)
    now, twice = 1 - law(1), 1 - law(2)
    mean_now, mean_twice = (float(weights @ one) for one in (now, twice))
    spread = float(np.sqrt(DRAW * max(mean_twice * (1 - mean_twice), 1 / n) / (2 * n)))
    return Forecast(
        mean_now,
        _band(now, weights, spread),
        mean_twice,
        _band(twice, weights, spread),
        mean_twice - mean_now,
        _band(twice - now, weights, spread),
    )


def weighed_laws(right: Floats, shares: Floats) -> tuple[Callable[[float], Floats], Floats]:
    """Laws, as a function that gives the errors (G,) at a share of the images that there are now,
    and their weights (G,): how probable the points make each, if all were as probable before."""
    # one right and one wrong image more, as Laplace: of few none is always right
    seen = np.hstack([right, np.ones((len(right), 1)), np.zeros((len(right), 1))])
    error = 1 - seen.mean(1)
    covariance = WIDER * np.cov(seen) / seen.shape[1] + np.diag((CROOKED * error) ** 2)
    around = DEVIATIONS * np.sqrt(covariance[-1, -1])
    axes = (
        np.linspace(max(error[-1] - around, 1e-4), min(error[-1] + around, 1), ERRORS),
        np.linspace(0, STAYS, FLOORS),
        np.geomspace(FLATTEST, STEEPEST, POWERS),
    )
    now, stays, power = (one.ravel() for one in np.meshgrid(*axes, indexing="ij"))

    def law(share: float) -> Floats:
        found: Floats = now * (stays + (1 - stays) * share**-power)
        return found

    off = np.stack([law(share) for share in shares]) - error[:, None]
    misfit = (off * np.linalg.solve(covariance, off)).sum(0)
    weights = np.exp((misfit.min() - misfit) / 2)
    return law, weights / weights.sum()


def _band(values: Floats, weights: Floats, spread: float) -> tuple[float, float]:
    """The middle 90 % of normal distributions of one spread around (G,) values."""
    from scipy import optimize, special  # half a second

    def beyond(limit: float, share: float) -> float:
        return float(weights @ special.ndtr((limit - values) / spread)) - share

    ends = values.min() - 9 * spread, values.max() + 9 * spread
    low, high = (
        float(optimize.brentq(beyond, *ends, ((1 + sign * BAND) / 2,), xtol=1e-4))
        for sign in (-1, 1)
    )
    return low, high


def told(found: Forecast) -> str:
    """What a forecast says, in words for everybody."""
    low, high = found.gain_band
    if low > SURELY:
        verdict = "Twice as many pictures would help"
    elif high < 2 * SURELY:
        verdict = "Twice as many pictures would hardly help"
    else:
        verdict = "It is not sure that twice as many pictures would help"
    least, most = found.twice_band
    return (
        f"{verdict}: of 100 new pictures about {100 * found.now:.0f} are right now, and then "
        f"{100 * found.twice:.0f} ({100 * max(least, 0):.0f} to {100 * min(most, 1):.0f}), which "
        f"is {100 * found.gain:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})."
    )
