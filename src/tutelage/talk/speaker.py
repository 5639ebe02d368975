"""Models to talk to: found by name, checked, opened."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tutelage.data.tokenizer import TextTokenizer
from tutelage.errors import ArtifactError
from tutelage.generation.engine import Engine
from tutelage.model.hub import load_causal_lm
from tutelage.run.manifest import MANIFEST, Manifest, damage, read_manifest


@dataclass(frozen=True)
class Place:
    """A model's folder; `stage` is the type of stage that made it, or "" for a folder from elsewhere."""

    path: Path
    stage: str = ""

    @property
    def is_base(self) -> bool:
        """Known to be pretrained only: it continues text and was never taught to answer."""
        return self.stage == "pretrain"

    @property
    def base_note(self) -> str:
        """What to expect of a base model in a chat."""
        return (
            f"{self.path} is a base model: it was pretrained, but never taught to answer. "
            "It will go on with the pattern of what it reads."
        )


class Speaker:
    """An opened model with its tokenizer."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.tokenizer = TextTokenizer.load(place.path)
        self.model = load_causal_lm(place.path).eval()
        if self.tokenizer.vocab_size > self.model.config.vocab_size:
            raise ArtifactError(
                f"{place.path}: the tokenizer has {self.tokenizer.vocab_size} tokens, "
                f"the model only {self.model.config.vocab_size}",
                hint="the folder mixes files of two models; make or copy it again",
            )

    @cached_property
    def engine(self) -> Engine:
        """Decodes until the end of a turn or of a document."""
        return Engine(self.model, self.tokenizer.stop_ids, self.tokenizer.pad_id, tokenizer=self.tokenizer)

    def document(self, text: str) -> list[int]:
        """Token ids of text as the beginning of a document."""
        return [self.tokenizer.bos_id, *self.tokenizer.encode(text)]


def find_model(name: str) -> Place:
    """A model by its folder or as RUN/STAGE. Raises ArtifactError for a missing, damaged or speechless one."""
    path = next((place for place in (Path(name), Path("runs") / name) if (place / "config.json").is_file()), None)
    if path is None:
        raise _not_found(name)
    if any(kind.endswith("ForSequenceClassification") for kind in _architectures(path)):
        raise ArtifactError(
            f"{path} is a reward model: it scores replies and cannot write any",
            hint="name the model that it was made from, or one that was trained with it",
        )
    manifest = _manifest(path)
    if manifest is not None and (problem := damage(path, manifest)):
        raise ArtifactError(problem, hint=f"run the recipe again: it makes {path.name} anew")
    return Place(path, manifest.stage if manifest else "")


def short_names(places: list[Place]) -> list[str]:
    """Folder names, with as many of the folders above as tell them apart."""
    parts = [place.path.resolve().parts[1:] for place in places]
    deepest = max(map(len, parts))
    for depth in range(1, deepest + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(set(parts)):
            return names
    raise AssertionError("whole paths tell folders apart")


def _manifest(folder: Path) -> Manifest | None:
    return read_manifest(folder) if (folder / MANIFEST).is_file() else None


def _architectures(folder: Path) -> list[str]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return [str(kind) for kind in config.get("architectures") or []]
    except (ValueError, AttributeError, TypeError):
        return []  # what is wrong with it is said when it is opened


def _not_found(name: str) -> ArtifactError:
    given = next((place for place in (Path(name), Path("runs") / name) if place.is_dir()), None)
    if given is None:
        above = next((p for p in (Path(name).parent, Path("runs") / Path(name).parent) if models_in(p)), Path("runs"))
        return ArtifactError(f"there is no model {name!r}", hint=_listed(above))
    return ArtifactError(f"{given} holds no model (config.json is missing)", hint=_listed(given))


def models_in(folder: Path) -> list[Path]:
    """Published models of a run folder, or of the run folders in a folder."""
    found = [*folder.glob("*/config.json"), *folder.glob("*/*/config.json")]
    models = [path.parent for path in sorted(found) if ".partial" not in str(path) and ".old" not in str(path)]
    return [path for path in models if not any("SequenceClass" in kind for kind in _architectures(path))]


def _listed(folder: Path) -> str:
    found = models_in(folder)
    if not found:
        return "`tutelage run quickstart` makes some; any Hugging Face folder will do too"
    return f"models in {folder}: {', '.join(str(path) for path in found[:8])}" + (" …" if len(found) > 8 else "")
