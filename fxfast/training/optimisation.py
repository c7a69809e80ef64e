"""One optimiser step, and what happens when it is not a number."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch

from fxfast.errors import RunError
from fxfast.models import AudioModel
from fxfast.training.config import TrainConfig
from fxfast.training.feed import Batch
from fxfast.training.losses import dc_loss, esr_loss, stft_loss
from fxfast.whole_file import whole_file

# Adam that forgets old gradients faster than usual: it makes the high learning rates usable that
# short runs need.
ADAM_BETAS = (0.9, 0.99)


class Taken(NamedTuple):
    """The loss of a step, and the prediction from the weights before it."""

    loss: torch.Tensor
    prediction_bct: torch.Tensor


class Optimisation:
    """The optimiser of a model and the loss it lowers; ``energy_floor`` is that of ``esr_loss``,
    ``bad_batch`` where a batch is saved whose loss or gradient is not finite."""

    def __init__(
        self, config: TrainConfig, model: AudioModel, energy_floor: float, bad_batch: Path
    ) -> None:
        self.config, self.model = config, model
        self.energy_floor, self.bad_batch = energy_floor, bad_batch
        sizes: dict[float, list[torch.nn.Parameter]] = {}
        for parameter, size in model.parameter_step_sizes():
            sizes.setdefault(size, []).append(parameter)
        groups = [{"params": parameters, "step_size": size} for size, parameters in sizes.items()]
        self.optimizer = torch.optim.Adam(groups, lr=config.learning_rate, betas=ADAM_BETAS)

    @property
    def learning_rate(self) -> float:
        group = self.optimizer.param_groups[0]
        return float(group["lr"] / group["step_size"])

    def step(self, batch: Batch, learning_rate: float, number: int, epoch: int) -> Taken:
        """Goes one step down; ``number`` and ``epoch`` are for messages.

        Raises ``RunError``, with the weights as they were and the batch in a file, when loss or
        gradient are not finite."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate * group["step_size"]
        self.optimizer.zero_grad(set_to_none=True)
        prediction_bct = batch.predict()
        loss = self.loss(prediction_bct, batch)
        torch.autograd.backward(loss)
        self._scale_gradients()
        norm = torch.nn.utils.clip_grad_norm_(
            self.model.parameters(), self.config.max_gradient_norm or float("inf")
        )
        if not bool(torch.isfinite(loss + norm)):
            values = (prediction_bct.detach(), loss.detach(), norm.detach(), learning_rate)
            self._refuse(batch, *values, number, epoch)
        self.optimizer.step()
        return Taken(loss.detach(), prediction_bct.detach())

    def _scale_gradients(self) -> None:
        """To those of the parameters over their step sizes: so they weigh alike in the norm."""
        for group in self.optimizer.param_groups:
            if group["step_size"] != 1.0:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        parameter.grad.mul_(group["step_size"])

    def loss(self, prediction_bct: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The error-to-signal ratio and what the config adds to it."""
        loss = esr_loss(
            prediction_bct,
            batch.y_bct,
            batch.mask_bct,
            pre_emphasis=self.config.pre_emphasis,
            energy_floor=self.energy_floor,
        )
        for weight, term in (
            (self.config.dc_weight, dc_loss),
            (self.config.stft_weight, stft_loss),
        ):
            if weight:
                added = term(prediction_bct, batch.y_bct, batch.mask_bct, self.energy_floor)
                loss = loss + weight * added
        return loss

    def _refuse(
        self,
        batch: Batch,
        prediction_bct: torch.Tensor,
        loss: torch.Tensor,
        norm: torch.Tensor,
        learning_rate: float,
        number: int,
        epoch: int,
    ) -> None:
        values: dict[str, Any] = {
            "x": batch.x_bct,
            "y": batch.y_bct,
            "mask": batch.mask_bct,
            "prediction": prediction_bct,
            "loss": loss,
            "gradient_norm": norm,
            "step": number,
            "learning_rate": learning_rate,
            "model": self.model.state_dict(),
        }
        with whole_file(self.bad_batch) as temporary:
            torch.save(values, temporary)
        raise RunError(
            f"loss: expected a finite value, got loss {float(loss):.3g} and gradient norm "
            f"{float(norm):.3g} in epoch {epoch}, step {number}, at learning rate "
            f"{learning_rate:.2g} (a smaller one may help); batch and weights: {self.bad_batch}"
        )
