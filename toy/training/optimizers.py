"""How the experts' parts are trained: Muon for the matrices, AdamW for the rest, at rates that a schedule scales."""

import torch


class Optimizers:
    """`rates` are the learning rates of the matrices and of the rest."""

    def __init__(
        self, matrices: list[torch.Tensor], others: list[torch.Tensor], rates: tuple[float, float], clip: float = 0.0
    ) -> None:
        self._parameters, self._rates, self._clip = [*matrices, *others], rates, clip
        muon = torch.optim.Muon(matrices, lr=rates[0], weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
        self._both = (muon, torch.optim.AdamW(others, lr=rates[1], betas=(0.9, 0.98), weight_decay=0.0))

    def step(self, loss: torch.Tensor, share: float) -> None:
        """Go down the gradient of `loss` at `share` of the learning rates."""
        for optimizer, rate in zip(self._both, self._rates, strict=True):
            optimizer.param_groups[0]["lr"] = share * rate
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self._clip:
            torch.nn.utils.clip_grad_norm_(self._parameters, self._clip)
        for optimizer in self._both:
            optimizer.step()

    def states(self) -> list[dict]:
        return [optimizer.state_dict() for optimizer in self._both]

    def load_states(self, states: list[dict]) -> None:
        for optimizer, state in zip(self._both, states, strict=True):
            optimizer.load_state_dict(state)
