"""The jobs of an experiment that look into its encoders: similarity of layers, transplants and the needle probe."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from detour.experiments.config import Experiment, model_name
from detour.jobs import Job

MODULES = ("attention", "mlp", "norms", "embeddings", "head")  # transplanted by module; every other group names layers


def analysis_jobs(experiment: Experiment) -> list[Job]:
    """All of them; each needs the exports of its encoders only."""
    return [*_cka(experiment), *_transplants(experiment), *_needle(experiment)]


def linear_probe(experiment: Experiment, name: str, model: str, out: Path, *, needs: str) -> Job:
    """The job that probes ``model``, a name and a folder, on the tasks of the linear probe."""
    probes = experiment.config.probes
    tasks = [part for task in probes.linear for part in ("--task", task)]
    overrides = [f"task.{override}" for override in probes.overrides]
    data = experiment.config.finetuning.data
    return Job(
        name=f"probe-{name}",
        arguments=("probe", "linear", model, *overrides, *tasks, "--data", data, "--out", str(out)),
        is_done=out.is_file,
        needs=(needs,),
        kind="probe",
    )


def cka_folder(experiment: Experiment, pair: tuple[str, str], seed: int) -> Path:
    """Where the similarity of two arms of one training seed is."""
    return experiment.config.path / "analysis" / f"cka-{pair[0]}-{pair[1]}-seed{seed}"


def transplant_scores(experiment: Experiment, pair: tuple[str, str], group: str, seed: int) -> Path:
    """Where the linear probe of a transplant is."""
    return experiment.config.path / "probes" / f"{_transplant_name(pair, group, seed)}.csv"


def needle_scores(experiment: Experiment, name: str) -> Path:
    """Where the needle probe of an encoder is."""
    return experiment.config.path / "probes" / f"needle-{name}.csv"


def _model(experiment: Experiment, name: str) -> Path:
    return experiment.config.path / "models" / name


def _cka(experiment: Experiment) -> Iterator[Job]:
    cka, names, seeds = experiment.config.analysis.cka, experiment.names, experiment.config.seeds
    if not cka.texts:
        return
    texts = [part for text in cka.texts for part in ("--texts", text)]
    draws = ",".join(map(str, cka.draws))
    options = ["--subset", str(cka.subset), "--draws", draws, "--max-length", str(cka.max_length)]
    for one, other in cka.pairs:
        for index, seed in enumerate(seeds):
            needs = [names[one, seed], names[other, seed]]
            models = [str(_model(experiment, name)) for name in needs]
            if len(seeds) > 1:
                needs.append(names[other, seeds[(index + 1) % len(seeds)]])
                models += ["--noise", f"{models[1]},{_model(experiment, needs[2])}"]
            out = cka_folder(experiment, (one, other), seed)
            yield Job(
                name=out.name,
                arguments=("analyze", "cka", *models, *texts, *options, "--out", str(out)),
                is_done=(out / "cka.json").is_file,
                needs=tuple(f"export-{name}" for name in needs),
                kind="cka",
            )


def _transplants(experiment: Experiment) -> Iterator[Job]:
    config, names = experiment.config, experiment.names
    for pair in config.analysis.transplants.pairs:
        for seed in config.seeds:
            donor, receiver = (names[arm, seed] for arm in pair)
            for group in config.analysis.transplants.groups:
                name = _transplant_name(pair, group, seed)
                out, scores = _model(experiment, name), transplant_scores(experiment, pair, group, seed)
                option = "--modules" if group in MODULES else "--layers"
                folders = [str(_model(experiment, each)) for each in (donor, receiver)]
                yield Job(
                    name=name,
                    arguments=("analyze", "transplant", *folders, option, group, "--out", str(out)),
                    is_done=(out / "transplant.json").is_file,
                    needs=(f"export-{donor}", f"export-{receiver}"),
                    kind="transplant",
                )
                yield linear_probe(experiment, name, f"{name}={out}", scores, needs=name)


def _needle(experiment: Experiment) -> Iterator[Job]:
    needle = experiment.config.analysis.needle
    if needle.language is None:
        return
    options = ["--language", needle.language, "--distractors", str(needle.distractors)]
    options += [part for tokens in needle.tokens for part in ("--tokens", str(tokens))]
    for (arm, seed), name in experiment.names.items():
        scores = needle_scores(experiment, name)
        model = f"{model_name(arm, seed)}={_model(experiment, name)}"
        yield Job(
            name=f"needle-{name}",
            arguments=("probe", "needle", model, *options, "--out", str(scores)),
            is_done=scores.is_file,
            needs=(f"export-{name}",),
            kind="probe",
        )


def _transplant_name(pair: tuple[str, str], group: str, seed: int) -> str:
    return f"transplant-{pair[0]}-{pair[1]}-{group}-seed{seed}"
