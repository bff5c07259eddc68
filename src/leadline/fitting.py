"""The loop of every training here: AdamW, warm-up and cosine, clipping, EMA on Hugging Face Accelerate, resumed to the
bit.

Every random draw is named by the training seed and the step (or epoch), so a checkpoint needs no generator state: what
step 812 sees does not depend on where the process was killed before it.
"""

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from diffusers.training_utils import EMAModel
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from leadline.errors import LeadlineError
from leadline.files import atomic_file, write_text
from leadline.looks import watched_steps
from leadline.progress import ProgressCallback, silent
from leadline.recipe import TrainSpec
from leadline.rng import numpy_generator_for

B = TypeVar("B")
"""A batch: a dataclass whose fields are tensors, the first dimension counting images."""


class TrainingDiverged(LeadlineError):
    """The loss or the weights are no longer finite. The last good checkpoint is still there."""


def learning_rate(spec: TrainSpec, step: int) -> float:
    """Linear warm-up over warmup_steps, then half a cosine (1608.03983, Eq. 5, one period) to 0 at the last step.

    step: 0-based. The first step has learning_rate / warmup_steps.
    """
    if step < spec.warmup_steps:
        return spec.learning_rate * (step + 1) / spec.warmup_steps
    share = (step - spec.warmup_steps) / max(1, spec.steps - spec.warmup_steps)
    return spec.learning_rate * 0.5 * (1 + math.cos(math.pi * share))


def batch_indices(seed: int, step: int, batch_size: int, num_images: int) -> Int[np.ndarray, " b"]:
    """Which images step `step` sees: consecutive places in an endless row of seeded permutations of the set."""
    places = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs, offsets = np.divmod(places, num_images)
    indices = np.empty(batch_size, dtype=np.int64)
    for epoch in np.unique(epochs):
        order = numpy_generator_for(seed, "train-order", int(epoch)).permutation(num_images)
        indices[epochs == epoch] = order[offsets[epochs == epoch]]
    return indices


def prefetch(make: Callable[[int], B], start: int, stop: int) -> Iterator[B]:
    """The batches of steps start..stop, each made in a second thread while the step before it is computed."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        ahead = pool.submit(make, start)
        for step in range(start, stop):
            batch = ahead.result()
            if step + 1 < stop:
                ahead = pool.submit(make, step + 1)
            yield batch


@dataclass
class Progress:
    """Where the training stands; all of it is in the checkpoint."""

    step: int = 0
    loss_sum: float = 0.0
    loss_count: int = 0
    seconds: float = 0.0


@dataclass
class Trainer:
    """Model, optimizer and average of one training, prepared by Accelerate, and their checkpoint.

    loss: (model, batch on its device) -> the number to make small. identity: what the checkpoint is of.
    """

    spec: TrainSpec
    accelerator: Accelerator
    model: Any
    optimizer: Any
    average: EMAModel
    loss: Callable[[Any, Any], Float[Tensor, ""]]
    identity: str
    pending: list[Tensor] = field(default_factory=list)

    @property
    def precision(self) -> str:
        """fp32, bf16 or fp16."""
        word: str = self.accelerator.mixed_precision
        return {"no": "fp32"}.get(word, word)

    def step(self, batch: Any, rate: float) -> None:
        """One gradient step on the loss of the batch, with that learning rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        # The model is autocast by Accelerate, the loss is not.
        loss = self.loss(self.model, on_device(batch, self.accelerator.device))
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.model.parameters(), self.spec.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.average.step(self.model.parameters())
        self.pending.append(loss.detach())

    def drain(self, progress: Progress) -> None:
        """Add the losses since the last call to the running mean. Raises TrainingDiverged when one is not finite."""
        if not self.pending:
            return
        losses = self.accelerator.reduce(torch.stack(self.pending), "mean").double().cpu()
        self.pending.clear()
        for offset, loss in enumerate(losses.tolist()):
            if not math.isfinite(loss):
                raise TrainingDiverged(f"the loss is {loss} at step {progress.step - len(losses) + offset + 1}")
            progress.loss_sum += loss
            progress.loss_count += 1

    def tensors(self) -> dict[str, Tensor]:
        """Weights, average and optimizer state, flat, by name."""
        model = self.accelerator.unwrap_model(self.model)
        found = {f"model.{name}": value for name, value in model.state_dict().items()}
        found |= {f"average.{i}": value for i, value in enumerate(self.average.shadow_params)}
        for i, state in self.optimizer.state_dict()["state"].items():
            found |= {f"optimizer.{i}.{name}": value for name, value in state.items()}
        return {name: value.detach().cpu().contiguous() for name, value in found.items()}

    @contextmanager
    def averaged(self) -> Iterator[nn.Module]:
        """The network with its averaged weights, in evaluation mode; afterwards its own are back, to the bit, and it
        trains."""
        network = self.accelerator.unwrap_model(self.model)
        self.average.store(network.parameters())
        self.average.copy_to(network.parameters())
        try:
            yield network.eval()
        finally:
            self.average.restore(network.parameters())
            network.train()

    def save(self, file: Path, progress: Progress) -> None:
        """Write the checkpoint, whole or not at all. Raises TrainingDiverged rather than save broken weights."""
        tensors = self.tensors()
        check_finite(tensors, progress.step)
        scaler = self.accelerator.scaler.state_dict() if self.accelerator.scaler else {}
        metadata = {
            "identity": self.identity,
            "progress": json.dumps(vars(progress)),
            "average_step": str(self.average.optimization_step),
            "scaler": json.dumps(scaler),
        }
        with atomic_file(file) as temporary:
            save_file(tensors, temporary, metadata=metadata)

    def load(self, file: Path) -> Progress:
        """Take up a checkpoint. Raises LeadlineError when it is of another training or cannot be read."""
        with reading(file), safe_open(file, framework="pt") as opened:
            metadata = opened.metadata()
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (no mapping)
            progress = Progress(**json.loads(metadata["progress"]))
            identity = metadata["identity"]
        if identity != self.identity:
            raise LeadlineError(
                f"checkpoint {file} is of another training (its data, model or settings differ): delete it to train "
                "anew, or use another folder"
            )
        self.accelerator.unwrap_model(self.model).load_state_dict(part(tensors, "model."))
        self.average.shadow_params = [
            tensors[f"average.{i}"].to(shadow) for i, shadow in enumerate(self.average.shadow_params)
        ]
        self.average.optimization_step = int(metadata["average_step"])
        states: dict[int, dict[str, Tensor]] = {}
        for name, value in part(tensors, "optimizer.").items():
            index, _, key = name.partition(".")
            states.setdefault(int(index), {})[key] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": states})
        if self.accelerator.scaler and (scaler := json.loads(metadata["scaler"])):
            self.accelerator.scaler.load_state_dict(scaler)
        return progress


def check_finite(tensors: Mapping[str, Tensor], step: int) -> None:
    """Raise TrainingDiverged where a tensor is broken."""
    broken = [name for name, value in tensors.items() if not torch.isfinite(value).all()]
    if broken:
        raise TrainingDiverged(f"{len(broken)} tensors, {broken[0]} first, are not finite at step {step}")


def checkpoint_identity(file: Path) -> str:
    """What training a checkpoint is of. Raises LeadlineError when it cannot be read."""
    with reading(file), safe_open(file, framework="pt") as opened:
        identity: str = opened.metadata()["identity"]
        return identity


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Turn what a file that is no checkpoint raises into a LeadlineError that names it."""
    try:
        yield
    except (OSError, SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise LeadlineError(f"checkpoint {file} cannot be read ({error}): delete it to train anew") from error


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def on_device(batch: B, device: torch.device) -> B:
    """The batch with all its tensors there."""
    moved = {f.name: getattr(batch, f.name).to(device, non_blocking=True) for f in fields(batch)}  # type: ignore[arg-type]
    return replace(batch, **moved)  # type: ignore[type-var]


def make_trainer(
    network: nn.Module, spec: TrainSpec, *, identity: str, loss: Callable[[Any, Any], Float[Tensor, ""]]
) -> Trainer:
    """Hand a network to Accelerate with an optimizer of its trained parameters and the average of all.

    Raises LeadlineError when the spec does not fit the device or the number of processes.
    """
    AcceleratorState._reset_state()
    accelerator = Accelerator(mixed_precision=mixed_precision(spec.precision))
    if spec.batch_size % accelerator.num_processes:
        raise LeadlineError(
            f"a batch of {spec.batch_size} cannot be shared evenly by {accelerator.num_processes} processes: "
            "--set train.batch_size= a multiple"
        )
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=spec.learning_rate, weight_decay=spec.weight_decay, fused=True)
    model, optimizer = accelerator.prepare(network, optimizer)
    average = EMAModel(model.parameters(), decay=spec.ema_decay, foreach=True)
    average.to(accelerator.device)
    return Trainer(
        spec=spec,
        accelerator=accelerator,
        model=model,
        optimizer=optimizer,
        average=average,
        loss=loss,
        identity=identity,
    )


def mixed_precision(precision: str) -> str:
    """Accelerate's word for TrainSpec.precision on this machine. Raises LeadlineError for what the device has not."""
    has_gpu = torch.cuda.is_available()
    if precision == "auto":
        return "bf16" if has_gpu and torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    if precision == "fp16" and not has_gpu:
        raise LeadlineError("fp16 training needs a GPU: --set train.precision=fp32, bf16 or auto")
    return "no" if precision == "fp32" else precision


def fit(
    trainer: Trainer,
    make: Callable[[int, slice], Any],
    state: Progress,
    *,
    checkpoint: Path,
    curve: Path,
    keep: Callable[[nn.Module, int], object] | None = None,
    look: Callable[[nn.Module, int], object] | None = None,
    progress: ProgressCallback = silent,
    stage: str = "training",
) -> Any:
    """The steps from state.step to spec.steps; returns the network with its averaged weights.

    make: (step, which images of the batch are this process's) -> batch. curve: JSON lines, one per log_every steps:
    step, loss (mean since the last line), learning_rate, images_per_second, seconds. keep: (network with its averaged
    weights, step), called after each of spec.snapshots and before the checkpoint of the same step, so that a
    checkpoint never lies beyond a snapshot that is not there. look: the same, after each of `watched_steps`; its time
    does not count as the training's. Every process calls this; only the main one writes and looks, the others wait.
    Raises TrainingDiverged when the loss or the weights are no longer finite (the last good
    checkpoint stays).
    """
    spec, accelerator = trainer.spec, trainer.accelerator
    writer = open_tensorboard(curve.parent / "tensorboard") if spec.tensorboard else None
    if accelerator.is_main_process:
        keep_curve(curve, state.step)
    share = spec.batch_size // accelerator.num_processes
    mine = slice(accelerator.process_index * share, (accelerator.process_index + 1) * share)
    # On a GPU reading the loss stops the queue of kernels, so it is read only now and then.
    check_every = 1 if accelerator.device.type == "cpu" else 20
    trainer.model.train()
    watched = set(watched_steps(spec)) if look is not None else set()
    clock, first = time.monotonic(), state.step
    carried = state.seconds
    try:
        for batch in prefetch(lambda step: make(step, mine), first, spec.steps):
            trainer.step(batch, learning_rate(spec, state.step))
            state.step += 1
            logged, saved = state.step % spec.log_every == 0, state.step % spec.checkpoint_every == 0
            last, kept = state.step == spec.steps, keep is not None and state.step in spec.snapshots
            looked = state.step in watched
            if logged or saved or last or kept or looked or state.step % check_every == 0:
                trainer.drain(state)
                elapsed = time.monotonic() - clock
                state.seconds = carried + elapsed
                rate = (state.step - first) * spec.batch_size / elapsed
                detail = f"loss {state.loss_sum / max(state.loss_count, 1):.4f}, {rate:.0f} images/s"
                progress(stage, state.step, spec.steps, detail)
            if logged or last:
                line = {
                    "step": state.step,
                    "loss": state.loss_sum / state.loss_count,
                    "learning_rate": learning_rate(spec, state.step - 1),
                    "images_per_second": round(rate, 1),
                    "seconds": round(state.seconds, 2),
                }
                state.loss_sum, state.loss_count = 0.0, 0
                if accelerator.is_main_process:
                    append_line(curve, line)
                    if writer is not None:
                        writer.add_scalar("loss", line["loss"], state.step)
                        writer.add_scalar("learning_rate", line["learning_rate"], state.step)
            paused = time.monotonic()
            if (kept or looked) and accelerator.is_main_process:
                with trainer.averaged() as network:
                    check_finite(network.state_dict(), state.step)
                    if keep is not None and kept:
                        keep(network, state.step)
                    if look is not None and looked:
                        look(network, state.step)
            if looked:
                accelerator.wait_for_everyone()
                clock += time.monotonic() - paused
            if (saved or last) and accelerator.is_main_process:
                trainer.save(checkpoint, state)
    except TrainingDiverged as error:
        left = f"the last good checkpoint is kept in {checkpoint}" if checkpoint.exists() else "no checkpoint was made"
        raise TrainingDiverged(
            f"{error}: training stopped; {left}. Lower --set train.learning_rate (now {spec.learning_rate:g}) or "
            "train.clip_norm, or train in fp32, in a new folder"
        ) from None
    finally:
        if writer is not None:
            writer.close()
    accelerator.wait_for_everyone()
    network = accelerator.unwrap_model(trainer.model)
    trainer.average.copy_to(network.parameters())
    return network.eval()


def device_name(device: torch.device) -> str:
    """The device in words, with the number of threads on a CPU: they decide its speed and its last bits."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"


def keep_curve(curve: Path, step: int) -> None:
    """Cut the curve back to what the checkpoint at `step` has seen."""
    kept = []
    if curve.exists():
        for line in curve.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line + "\n")
            except json.JSONDecodeError:
                break
    write_text(curve, "".join(kept))


def append_line(curve: Path, record: dict[str, Any]) -> None:
    """Append one JSON line, on disk before the next step."""
    with curve.open("a", encoding="utf-8") as handle:
        handle.write(json.dumps(record) + "\n")
        handle.flush()
        os.fsync(handle.fileno())


def open_tensorboard(folder: Path) -> Any:
    """A TensorBoard writer. Raises LeadlineError with the pip line when the package is missing."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise LeadlineError("train.tensorboard needs the extra `track`: pip install 'leadline[track]'") from None
    return SummaryWriter(str(folder))
