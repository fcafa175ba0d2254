"""What a checkpoint or model on disk is, from its headers alone: no weight is read.

torch is imported for pickles only, so that an answer takes a fraction of a second.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...config import ConfigError
from ..names import ABOUT, INDEX, MANIFEST, OPENFLAMINGO, STATE_KINDS, STEP, data_name, index_name, random_name
from ..tensor_header import DamagedFileError, read_header


@dataclass
class Report:
    """Findings.

    Attributes:
        kind: what it is.
        facts: name -> value, for people and for JSON.
        problems: what is missing or broken, a line each.
    """

    kind: str
    facts: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def inspect(path: Path) -> Report:
    """Look at a training checkpoint, a model folder or an OpenFlamingo file.

    Raises:
        ConfigError: nothing that is known.
    """
    if (path / ABOUT).is_file():
        return _training_checkpoint(path)
    if (path / "config.json").is_file():
        return _model_folder(path)
    if (path / OPENFLAMINGO).is_file():
        return _openflamingo(path / OPENFLAMINGO)
    if path.is_file():
        return _openflamingo(path)
    raise ConfigError("PATH", str(path), f"a checkpoint ({ABOUT}), a model folder (config.json) or an OpenFlamingo .pt")


def _training_checkpoint(path: Path) -> Report:
    about = _json(path / ABOUT)
    report = Report(
        "training checkpoint of flamingo_ds",
        {key: about.get(key) for key in ("format", "step", "layout", "ranks", "data_ranks")},
    )
    base = about.get("base") or {}
    report.facts["language model"], report.facts["vision encoder"] = (
        base.get("language_model"),
        base.get("vision_encoder"),
    )
    report.facts["frozen base"] = f"{base.get('tensors')} tensors, sha256 {str(base.get('sha256'))[:12]}"
    names: dict[str, set[str]] = {}
    for kind in STATE_KINDS:
        names[kind] = set(_indexed(path, index_name(kind), report, kind, str(about.get("step"))))
    for kind in STATE_KINDS[1:]:
        if odd := sorted(names[STATE_KINDS[0]] ^ names[kind]):
            report.problems.append(f"{odd[0]} is in only one of {STATE_KINDS[0]} and {kind}")
    wanted = ["recipe.yaml", "model/config.json"]
    wanted += [data_name(rank) for rank in range(about.get("data_ranks") or 0)]
    wanted += [random_name(rank) for rank in range(about.get("ranks") or 0)]
    report.problems += [f"{name} is missing" for name in wanted if not (path / name).is_file()]
    return report


def _model_folder(path: Path) -> Report:
    config = _json(path / "config.json")
    family = config.get("model_type")
    known = {
        "flamingo_ds": "model folder of flamingo_ds",
        "idefics": "IDEFICS model folder",
        "flamingo": "Otter folder",
    }
    report = Report(known.get(str(family), f"model folder of another kind ({family})"), {"dtype": config.get("dtype")})
    if (path / MANIFEST).is_file():
        manifest = _json(path / MANIFEST)
        report.facts |= {"step": manifest.get("step"), "trained as": manifest.get("layout")}
        manifest_names = set(manifest.get("tensors", {}))
    else:
        manifest_names = set()
    if (path / INDEX).is_file():
        found = set(_indexed(path, INDEX, report, "weights"))
    else:
        found = set()
        for file in sorted(path.glob("*.safetensors")):
            found |= _tensors(file, report)
        for file in [] if found else sorted(path.glob("pytorch_model*.bin")):
            found |= _pickled(file, report)
        report.facts["weights"] = f"{len(found)} tensors"
    if not found:
        report.problems.append("no safetensors or pytorch_model*.bin file with tensors")
    if manifest_names and (odd := sorted(manifest_names ^ found)):
        report.problems.append(f"{odd[0]} is only in the {'manifest' if odd[0] in manifest_names else 'files'}")
    return report


def _openflamingo(path: Path) -> Report:
    import torch

    from .folder_tensors import load_pickle

    content = load_pickle(path)
    state = content.get("model_state_dict", content)
    names = [str(name).removeprefix("module.") for name in state]
    if not any(name.startswith(("perceiver.", "lang_encoder.")) for name in names):
        raise ConfigError("PATH", str(path), "an OpenFlamingo .pt with perceiver and lang_encoder weights")
    report = Report("OpenFlamingo file", {"tensors": len(names), "epoch": content.get("epoch")})
    gated = {name.split(".gated_cross_attn_layer.")[0] for name in names if ".gated_cross_attn_layer." in name}
    report.facts["gated blocks before LM blocks"] = sorted(int(block.rsplit(".", 1)[1]) for block in gated)
    report.facts["parameters"] = sum(tensor.numel() for tensor in state.values() if isinstance(tensor, torch.Tensor))
    return report


def _indexed(path: Path, index: str, report: Report, what: str, step: str | None = None) -> Iterator[str]:
    """Names that an index promises; what its files do not hold becomes a problem."""
    if not (path / index).is_file():
        report.problems.append(f"{index} is missing")
        return
    weight_map = _json(path / index).get("weight_map", {})
    report.facts[what] = f"{len(weight_map)} tensors in {len(set(weight_map.values()))} files"
    held: dict[str, set[str]] = {}
    for file in sorted(set(weight_map.values())):
        held[file] = _tensors(path / file, report, step)
    missing = [name for name, file in weight_map.items() if held[file] and name not in held[file]]
    if missing:
        report.problems.append(f"{missing[0]} is not in {weight_map[missing[0]]}, as {index} says")
    yield from weight_map


def _tensors(path: Path, report: Report, step: str | None = None) -> set[str]:
    """Names in a safetensors file, by its header, and whether the file is as long as that says."""
    if not path.is_file():
        report.problems.append(f"{path.name} is missing")
        return set()
    try:
        header = read_header(path)
        saved = header.pop("__metadata__", {}).get(STEP, step)
        if saved != step:
            report.problems.append(f"{path.name} is of step {saved}")
        return set(header)
    except (OSError, DamagedFileError) as error:
        report.problems.append(str(error))
        return set()


def _pickled(path: Path, report: Report) -> set[str]:
    """Names in a file of torch.save."""
    from .folder_tensors import load_pickle

    try:
        return set(load_pickle(path))
    except ConfigError as error:
        report.problems.append(str(error))
        return set()


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError("PATH", str(path), f"valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError("PATH", str(path), "a JSON object")
    return content
