"""Which bands of a scene are drawn as red, green and blue."""

from __future__ import annotations

from collections.abc import Sequence

from rsjax import sensors
from rsjax.errors import SensorError

RED_GREEN_BLUE = (660.0, 560.0, 490.0)  # nanometres
_COLOURS = ("red", "green", "blue")


def choose(
    names: Sequence[str], said: Sequence[str] = (), known: Sequence[str] = ()
) -> tuple[tuple[str, ...], str]:
    """The bands to draw.

    Args:
        names: of the scene's bands, 'B04' or 'sensor/B04'.
        said: red, green, blue as the user names them; empty: those whose wavelengths are nearest.
        known: 'sensor/band' names that tell which sensor a bare name is of, e.g. of a map's model.

    Returns:
        Three names, or one to be drawn in grey where there is no colour; and a phrase that says
        which, with wavelengths.

    Raises:
        SensorError: names that no sensor has, or that mean other bands with other sensors.
    """
    if said:
        chosen = tuple(_find(names, one) for one in said)
        if len(chosen) != 3:
            raise SensorError(f"--rgb={','.join(said)}: expected three bands, red, green and blue")
        return chosen, f"{', '.join(chosen)} as red, green, blue"
    full = {name: _full(name, known) for name in dict.fromkeys(names)}
    bare = {_bare(name) for name in full.values() if "/" not in name}
    fitting = [s for s in sensors.SENSORS.values() if bare <= {band.name for band in s.bands}]
    listed = ", ".join(full)
    if not fitting:
        raise SensorError(
            f"no sensor that rsjax knows has the bands {listed}; say which to draw with "
            "--rgb=RED,GREEN,BLUE, or give them their names with --bands=sentinel2_l2a/B04,..."
        )
    answers = {_nearest(full, sensor.name): sensor.name for sensor in fitting}
    if len(answers) > 1:
        ways = "; ".join(f"{', '.join(_plain(a))} of {sensor}" for a, sensor in answers.items())
        raise SensorError(
            f"bands {listed} are of several sensors: {ways}. Say which to draw with "
            f"--rgb=RED,GREEN,BLUE, or name the sensor: {next(iter(answers.values()))}/"
            f"{next(iter(full))}"
        )
    (answer,) = answers
    for name in _plain(answer):
        _find(names, name)  # refuses one that is there twice
    said_each = ", ".join(f"{name} ({nm:g} nm)" if nm else name for name, nm in answer)
    how = "as red, green, blue" if len(answer) == 3 else "in grey"
    return _plain(answer), f"{said_each} {how}"


def wanted(said: Sequence[str] = ()) -> dict[str, list[str]]:
    """The bands to look for in a scene, which may lack others, by sensor.

    Args:
        said: as of `choose`.

    Returns:
        Of each sensor the 'sensor/band' names said, if it has any, or else its colours.
    """
    found = {}
    for sensor in sensors.SENSORS.values():
        full = {band.name: f"{sensor.name}/{band.name}" for band in sensor.bands}
        asked = [one for one in said if one in full or one in full.values()]
        if asked:
            found[sensor.name] = [full.get(one, one) for one in dict.fromkeys(asked)]
        elif not said:
            colours = _nearest({name: name for name in full.values()}, sensor.name)
            found[sensor.name] = list(_plain(colours))
    return found


def _find(names: Sequence[str], wanted: str) -> str:
    found = [name for name in names if wanted in (name, _bare(name))]
    if len(found) != 1:
        what = "is missing" if not found else "is there more than once"
        raise SensorError(
            f"band {wanted} {what}; the scene has {', '.join(names)}. Say which to draw with "
            "--rgb=RED,GREEN,BLUE, or leave out a file"
        )
    return found[0]


def _bare(name: str) -> str:
    """The name within its sensor, without the step of a time series."""
    return name.rpartition("/")[2].partition("@")[0]


def _full(name: str, known: Sequence[str]) -> str:
    hits = {one for one in known if _bare(one) == _bare(name)}
    return name if "/" in name or len(hits) != 1 else hits.pop()


def _nearest(full: dict[str, str], sensor: str) -> tuple[tuple[str, float], ...]:
    """Bands as the scene names them, with wavelengths (0: none); one where there is no colour."""
    waves = {}
    for name, named in full.items():
        of = sensors.get(named.rpartition("/")[0] or sensor)
        waves[name] = of.band(_bare(named)).wavelength_nm or 0.0
    seen = [name for name in waves if waves[name]]
    if seen:
        chosen = [min(seen, key=lambda n: abs(waves[n] - nm)) for nm in RED_GREEN_BLUE]
    else:
        chosen = [name for colour in _COLOURS for name in full if _bare(name) == colour]
    if len(set(chosen)) < 3:
        chosen = chosen[:1] or list(full)[:1]
    return tuple((name, waves[name]) for name in chosen)


def _plain(answer: tuple[tuple[str, float], ...]) -> tuple[str, ...]:
    return tuple(name for name, _ in answer)
