"""The training loop. It follows time, and it never asks how the model is laid out over ranks."""

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from ..batch import FlamingoBatch
from ..checkpoint.publish import SaveInput
from ..checkpoint.saver import CheckpointSaver
from ..config import EXIT_DONE, EXIT_HALTED, EXIT_STOPPED
from ..data import MicroBatch, MixtureOutline
from ..parallel import StepResult, TrainEngine, Watchdog
from .ends import Ends
from .metrics import MetricsLog, memory_gb
from .probe import Probe, describe_probe
from .progress import ProgressDisplay
from .run_folder import LOGGER, RunFolder
from .schedule import learning_rate

REFERENCE_SEQUENCES = 2


class TrainingDiverged(RuntimeError):
    """The loss is no number any more."""


class Trainer:
    """Takes steps until the last one or until asked to stop, and leaves a checkpoint behind.

    Args:
        content: what a checkpoint says besides the state, with the number of steps done so far.
        engine: the model, laid out.
        mixture: of data, at its position.
        probe: of the model on validation data.
        run: folder.
        ends: why to stop, and where to tell how it ended.
        saver: of checkpoints.
        watchdog: is told where the loop is.
        is_main: whether this rank writes and speaks.
    """

    def __init__(
        self,
        content: SaveInput,
        engine: TrainEngine,
        mixture: MixtureOutline,
        probe: Probe,
        run: RunFolder,
        ends: Ends,
        saver: CheckpointSaver,
        watchdog: Watchdog,
        is_main: bool,
    ) -> None:
        self.content, self.config, self.engine, self.mixture = content, content.recipe.train, engine, mixture
        self.probe, self.run, self.ends, self.saver = probe, run, ends, saver
        self.watchdog, self.is_main = watchdog, is_main
        self.stall = 0.0
        self.metrics = MetricsLog(run.metrics, run.tensorboard, content.step) if is_main else None
        self.display = ProgressDisplay(
            content.step, self.config.max_steps, self.config.log_every, is_main, run.files.progress
        )

    def train(self) -> int:
        """Run to the end.

        Returns:
            The process's exit code: done, or stopped with a checkpoint that is whole on all ranks.

        Raises:
            TrainingDiverged: a loss that is not finite; nothing is saved then.
            CheckpointError: a checkpoint could not be saved.
        """
        with self.display:
            try:
                with self.ends.explained(self.watchdog):
                    code = self._loop()
                    self.watchdog.doing("the last save")
                    self.saver.finish()  # collective
                self._say_saved()
                self._say_end(code)
            finally:
                self.mixture.close()
                self.saver.abandon()  # after an error; else there is none under way
                self._say_saved()
                if self.metrics is not None:
                    self.metrics.close()
        return code

    def _loop(self) -> int:
        saved = self.content.step
        self.ends.record.step = saved
        if saved >= self.config.max_steps:
            self._say(f"nothing to do: step {saved} of {self.config.max_steps} is done")
        elif self.is_main:
            self.run.files.finished.unlink(missing_ok=True)  # of a run that is now to go further
        for done in range(self.content.step + 1, self.config.max_steps + 1):
            began = time.monotonic()
            rate = learning_rate(done - 1, self.config.max_steps, self.config.optimizer, self.config.schedule)
            self.watchdog.at(done, "reading data")
            micro_batches = next(self.mixture)
            result = self.engine.train_step(micro_batches, rate, self._counters(micro_batches))
            # All ranks have the same losses, so all stop here or none does.
            if not math.isfinite(result.loss) or not math.isfinite(result.grad_norm):
                raise TrainingDiverged(
                    f"step {done}: loss {result.losses}, gradient norm {result.grad_norm}; the last checkpoint is of "
                    f"step {saved}"
                )
            seconds = time.monotonic() - began
            self.ends.record.step = done
            probed = self.probe.losses() if self.probe.is_due(done) else {}
            self._report(done, result, rate, seconds, probed)
            self._say_saved()
            # The wish to stop was summed over ranks inside the step: every rank saves after the same one.
            halting = result.counters["halt"] > 0
            stopping = halting or result.counters["stop"] > 0
            if stopping or done % self.config.save_every == 0 or done == self.config.max_steps:
                self._save(done, micro_batches[0].batch[:REFERENCE_SEQUENCES])
                saved = done
            if stopping and done < self.config.max_steps:
                return EXIT_HALTED if halting else EXIT_STOPPED
        return EXIT_DONE

    def _counters(self, micro_batches: list[MicroBatch]) -> dict[str, int]:
        batches = [micro.batch for micro in micro_batches]
        filled = {f"{kind}/{micro.dataset}": 0 for micro in micro_batches for kind in ("real", "slots")}
        for micro in micro_batches:
            filled[f"real/{micro.dataset}"] += micro.batch.num_tokens()
            filled[f"slots/{micro.dataset}"] += micro.batch.attention_mask.numel()
        return {
            "tokens": sum(batch.num_tokens() for batch in batches),
            "images": sum(int(batch.num_images.sum()) for batch in batches),
            "stop": int(self.ends.stop.requested),
            "halt": int(self.is_main and self.run.files.stop.exists()),
            **filled,
            **self.mixture.bad_samples(),
        }

    def _report(self, step: int, result: StepResult, rate: float, seconds: float, probed: Mapping[str, float]) -> None:
        self.watchdog.doing("reading gates")
        gates = self.engine.gates()  # collective
        if self.metrics is None:
            return
        counters = dict(result.counters)
        del counters["stop"], counters["halt"]
        shares = {
            f"real_token_share/{name}": counters.pop(f"real/{name}") / max(counters.pop(f"slots/{name}"), 1)
            for name in result.losses
        }
        values: dict[str, float] = {
            "loss": result.loss,
            **{f"loss/{name}": loss for name, loss in result.losses.items()},
            "lr": rate,
            "grad_norm": result.grad_norm,
            **gates,
            "tokens_per_s": counters.pop("tokens") / seconds,
            "images_per_s": counters.pop("images") / seconds,
            "memory_gb": memory_gb(),
            "data_step": self.mixture.data_step,
            **shares,
            # Of the many kinds of bad samples (bad_samples/DATASET/KIND) those that there are.
            **{name: count for name, count in counters.items() if count or name.count("/") < 2},
            **probed,
        }
        self.metrics.write(step, values)
        self.display.step(step, values)
        if probed:
            self._say(f"probe at step {step}  {describe_probe(probed)}")

    def _save(self, step: int, batch: FlamingoBatch) -> None:
        began = time.monotonic()
        self.watchdog.doing("saving")
        self.saver.finish()
        self._say_saved()  # the one before, with its own stall
        data_state = self.mixture.state_dict()
        self.saver.save(
            replace(self.content, step=step),
            self.engine,
            self._reference(batch),
            {"mixture": data_state} if data_state else None,
        )
        self.stall = time.monotonic() - began
        self._say_saved()  # if it is whole already

    def _say_saved(self) -> None:
        if (saved := self.saver.saved()) is not None:
            self._say(f"saved {saved.path} in {saved.seconds:.1f} s; training stood still for {self.stall:.2f} s")
            if (late := self.ends.too_late(saved.seconds)) is not None:
                self._say(late)

    def _say_end(self, code: int) -> None:
        if code == EXIT_STOPPED:
            self._say(f"stopped on {self.ends.stop.signal or 'the signal of another rank'}; go on with --resume")
        elif code == EXIT_HALTED:
            self._say(f"stopped by {self.run.files.stop}; remove it to go on with --resume")
        elif self.is_main:
            self.run.files.write_finished(self.config.max_steps)

    def _reference(self, batch: FlamingoBatch) -> Mapping[str, torch.Tensor]:
        inputs: dict[str, Any] = batch.tensors()
        return {**inputs, "logits": self.engine.logits(batch)}

    def _say(self, text: str) -> None:
        LOGGER.info(text)
        self.display.say(text)
