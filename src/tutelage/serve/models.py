"""The models that are served, by name: each with its tokenizer and a thread that decodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tutelage.errors import ArtifactError
from tutelage.serve.refusal import unavailable, unknown_model
from tutelage.serve.worker import Turns, Worker
from tutelage.store.engine import store_url
from tutelage.talk.speaker import Place, Speaker, find_model, models_in, short_names


@dataclass(frozen=True)
class Limits:
    """How much is taken on: replies decoded at once, requests that may wait for each model, tokens of context."""

    slots: int = 32
    waiting: int = 256
    context: int | None = None
    body: int = 8 << 20  # bytes of a request


class Served:
    """A model under its name."""

    def __init__(self, name: str, place: Place, limits: Limits, turns: Turns) -> None:
        self.name, self.place = name, place
        self.speaker = Speaker(place)
        self.tokenizer = self.speaker.tokenizer
        engine = self.speaker.engine
        self.context = min(limits.context or engine.context, engine.context)
        self.worker = Worker(engine, limits.slots, limits.waiting, turns, self.context)
        self.created = int((place.path / "config.json").stat().st_mtime)

    @property
    def chats(self) -> bool:
        """Whether it was made to answer; a base model goes on with what it reads."""
        return self.tokenizer.chat_template is not None and not self.place.is_base


class Models:
    """All that are served. Unless `loaded`, they are known by their names only, until `load` opens them."""

    def __init__(self, places: Sequence[tuple[str, Place]], limits: Limits, loaded: bool = True) -> None:
        self.limits, self._places, self._turns = limits, list(places), Turns()
        self.by_name: dict[str, Served] = {}  # those that are there
        self._stopping = False
        if loaded:
            self.load()

    @property
    def names(self) -> list[str]:
        """In the order in which they were named; the first stands for all where a request names none."""
        return [name for name, _ in self._places]

    @property
    def missing(self) -> list[str]:
        """Those that are not loaded yet."""
        return [name for name in self.names if name not in self.by_name]

    def load(self, told: Callable[[Served], None] = lambda served: None) -> None:
        """Open one after the other, and tell of each; takes what the disk takes. ArtifactError for a damaged one."""
        for name, place in self._places:
            if self._stopping:
                break
            served = Served(name, place, self.limits, self._turns)
            self.by_name = {**self.by_name, name: served}  # others may be reading the old one
            told(served)

    def get(self, name: str | None) -> Served:
        """A model by its name, or the first; RefusalError 404 if there is none, 503 if it is not loaded yet."""
        wanted = next(iter(self.names), "") if name is None else name
        if wanted not in self.names:
            raise unknown_model(wanted, self.names)
        if wanted not in self.by_name:
            raise unavailable(f"{wanted} is being loaded", "loading")
        return self.by_name[wanted]

    def all(self) -> list[Served]:
        """Every model; RefusalError 503 as long as one is not loaded."""
        if self.missing:
            raise unavailable(f"being loaded: {', '.join(self.missing)}", "loading")
        return list(self.by_name.values())

    def stop(self) -> None:
        """End all threads, and load no more."""
        self._stopping = True
        for served in self.by_name.values():
            served.worker.stop()


def find_models(names: Sequence[str]) -> list[tuple[str, Place]]:
    """Runs and models by their folders or names, each model once, under the shortest names that tell them apart."""
    places: dict[Path, Place] = {}
    for name in names:
        run = next((path for path in (Path(name), Path("runs") / name) if _is_run(path)), None)
        for path in models_in(run) if run is not None else [Path(name)]:
            place = find_model(str(path))
            places[place.path.resolve()] = place
    if not places:
        raise ArtifactError(f"no models in {', '.join(names)}", hint="`tutelage run quickstart` makes some")
    found = list(places.values())
    return list(zip(short_names(found), found, strict=True))


def run_of(names: Sequence[str]) -> Path | None:
    """The run folder of the first name, or that of the stage it names; None for a model from elsewhere."""
    for path in (Path(names[0]), Path("runs") / names[0]):
        for folder in (path, path.resolve().parent, path.resolve().parent.parent):
            if path.exists() and (folder / "run.json").is_file():
                return folder
    return None


def store_of(places: Sequence[tuple[str, Place]]) -> str:
    """The store of the first model's run, or one in this folder for a model from elsewhere."""
    above = places[0][1].path.resolve().parent
    run = next((folder for folder in (above, above.parent) if (folder / "run.json").is_file()), Path())
    return store_url(run)


def _is_run(path: Path) -> bool:
    return (path / "run.json").is_file() or (path.is_dir() and not (path / "config.json").is_file())
