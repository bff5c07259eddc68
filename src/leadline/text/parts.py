"""Which files of a pipeline's folder the libraries read, decided before they do: safetensors alone."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leadline.errors import LeadlineError

INDEX = "model_index.json"
VARIANTS = ("", "fp16")
"""Kinds of weights in the order in which they are taken: the full ones, else those in half precision."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A component of a pipeline: which classes of which library may stand in its place, and the name of its files.

    weights: the file of its weights without ending; "" where it has none. vocabularies: of a tokenizer, the files
    that hold its words, one way or the other.
    """

    library: str
    classes: tuple[str, ...]
    config: str = "config.json"
    weights: str = ""
    vocabularies: tuple[tuple[str, ...], ...] = ()


def needed(names: Sequence[str], parts: Mapping[str, Part]) -> list[str]:
    """Of all names of a repository's files, those that loading reads.

    Raises LeadlineError where a part's weights are not among them, or pickles alone.
    """
    wanted = [INDEX]
    for part, spec in parts.items():
        own = [name.removeprefix(f"{part}/") for name in names if re.fullmatch(rf"{part}/[^/]+", name)]
        chosen = [name for name in own if name.endswith((".json", ".txt")) and ".index." not in name]
        if spec.weights:
            variant, file = _weights(own, part, spec)
            listing = file.endswith(".json")
            chosen += [file, *([name for name in own if _is_shard(name, spec, variant)] if listing else [])]
        wanted += [f"{part}/{name}" for name in chosen]
    return wanted


def _is_shard(name: str, spec: Part, variant: str) -> bool:
    """Whether a file is named as one of several that hold a variant's weights, in the old or the new way."""
    dotted, number = (rf"\.{variant}" if variant else ""), r"-\d+-of-\d+"
    return bool(re.fullmatch(rf"{spec.weights}({dotted}{number}|{number}{dotted})\.safetensors", name))


def absent_files(folder: Path, parts: Mapping[str, Part]) -> list[str]:
    """Names of files that a folder of the hub's cache lacks."""
    absent = []
    for part, spec in parts.items():
        names = _names(folder / part)
        wanted = [spec.config]
        if spec.weights:
            try:
                wanted += shards(folder / part / _weights(names, part, spec)[1])
            except LeadlineError:
                wanted += [f"{spec.weights}.safetensors"]
        if spec.vocabularies:
            wanted += _vocabulary(names, spec) or spec.vocabularies[0]
        absent += [f"{part}/{name}" for name in wanted if name not in names]
    return absent


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def _vocabulary(names: Sequence[str], spec: Part) -> tuple[str, ...]:
    """The files of a vocabulary that are among the names; none where there is no whole one."""
    return next((files for files in spec.vocabularies if set(files) <= set(names)), ())


def _weights(names: Sequence[str], part: str, spec: Part) -> tuple[str, str]:
    """Variant and file of a part's weights among the names in its folder; the file may be the list of several.

    Raises LeadlineError where there are none, or pickles alone.
    """
    for variant in VARIANTS:
        found = _ways(spec, variant, names)
        if found:
            return variant, found[0]
    pickled = [name for name in names if name.endswith((".bin", ".ckpt", ".pt", ".pth"))]
    if pickled:
        raise LeadlineError(
            f"{part} has its weights as {pickled[0]}, a pickle, which can run code when it is read; only safetensors "
            "are read. Where you trust it, load the pipeline with diffusers and write it anew: save_pretrained(FOLDER)"
        )
    raise LeadlineError(f"{part} has no {spec.weights}.safetensors: the pipeline is not whole")


def _ways(spec: Part, variant: str, names: Sequence[str]) -> list[str]:
    """The files among the names that the libraries may begin with to read a variant: the weights, or a list of them."""
    dotted = f".{variant}" if variant else ""
    ways = (
        f"{spec.weights}{dotted}.safetensors",
        f"{spec.weights}.safetensors.index{dotted}.json",
        f"{spec.weights}{dotted}.safetensors.index.json",
    )
    return [file for file in dict.fromkeys(ways) if file in names]


def shards(file: Path) -> list[str]:
    """Names of the files that hold the weights: of `file` itself, or of those that it lists, all beside it."""
    if file.suffix != ".json":
        return [file.name]
    listed = read_json(file).get("weight_map")
    names = sorted({str(name) for name in listed.values()}) if isinstance(listed, dict) else []
    if not names or any(not re.fullmatch(r"[\w.-]+\.safetensors", name) for name in names):
        raise LeadlineError(f"{file} does not list files of weights that lie beside it")
    return names


def check_files(folder: Path, spec: Part) -> tuple[str, str]:
    """Variant and file of a part's weights ("" where it has none), once it is certain what the libraries would read.

    Raises LeadlineError where files are absent, and where a library would read others than those: of a file and a
    list of files beside it diffusers takes one and transformers the other; adapters bring weights of their own.
    """
    names = _names(folder)
    if spec.config not in names:
        raise LeadlineError(f"{folder} has no {spec.config}: the pipeline is not whole")
    if spec.vocabularies and not _vocabulary(names, spec):
        wanted = ", or ".join(" and ".join(files) for files in spec.vocabularies)
        raise LeadlineError(f"{folder} has no vocabulary ({wanted}): without it all prompts would mean the same")
    if not spec.weights:
        return "", ""
    variant, file = _weights(names, folder.name, spec)
    several = _ways(spec, variant, names)
    if len(several) > 1:
        raise LeadlineError(
            f"{folder} has its weights twice, by {' and '.join(several)}, and which are meant is not known: remove one"
        )
    named = "transformers_weights" in read_json(folder / spec.config)
    if "adapter_config.json" in names or named:
        raise LeadlineError(
            f"{folder} names weights beside its own ({'adapter_config.json' if not named else spec.config}), which "
            "are not read: merge them into the part's weights, or remove the reference"
        )
    shards(folder / file)
    return variant, file


def read_json(path: Path, absent: str = "") -> dict[str, Any]:
    try:
        words = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LeadlineError(absent or f"{path} is not there") from None
    except (OSError, ValueError, RecursionError) as error:
        raise LeadlineError(f"{path} cannot be read: {error}") from None
    if not isinstance(words, dict):
        raise LeadlineError(f"{path} holds {type(words).__name__}, expected an object")
    return words
