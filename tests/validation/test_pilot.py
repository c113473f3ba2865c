"""Site and dose are chosen on seeds of their own."""

from __future__ import annotations

import pandas as pd
import pytest

from interp.errors import DataError
from interp.validation.pilot import choose_site, pilot_doses


def test_choose_takes_the_least_cost_among_what_is_as_good() -> None:
    pilot = pd.DataFrame(
        {
            "site": ["L0.resid", "L1.resid", "L2.resid", "L3.resid"],
            "dose": [1.0, 2.0, 3.0, 2.0],
            "rate": [0.90, 0.94, 0.93, 0.5],
            "not_music": 0.0,
            "control": False,
            "fad": [40.0, 30.0, 20.0, 5.0],
        }
    )
    assert choose_site(pilot) == ("L2.resid", 3.0)
    assert choose_site(pilot, slack=0.0) == ("L1.resid", 2.0)


def test_choose_takes_the_lowest_dose_that_is_as_good_and_still_music() -> None:
    pilot = pd.DataFrame(
        {
            "site": ["L0.resid", "L0.resid", "L1.resid", "L1.resid", "L1.resid", "unsteered"],
            "dose": [2.0, 4.0, 2.0, 3.0, 4.0, 0.0],
            "rate": [0.5, 0.91, 0.9, 0.9, 1.0, 1.0],
            "not_music": [0.0, 0.0, 0.0, 0.0, 0.5, 0.0],
            "control": [False, False, False, False, False, True],
        }
    )
    assert choose_site(pilot) == ("L1.resid", 2.0)
    assert choose_site(pilot.assign(not_music=0.9)) == ("L1.resid", 4.0)
    assert pilot_doses((-1, 0.5, 1, 2, 3, 4)) == (1.0, 2.0, 3.0, 4.0)
    with pytest.raises(DataError, match="above zero"):
        pilot_doses((-1.0, 0.0))
