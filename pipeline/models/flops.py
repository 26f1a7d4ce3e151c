"""FLOPs of a forward pass, counted while it runs on the meta device."""

from torch.utils.flop_counter import FlopCounterMode


class RunningFlops(FlopCounterMode):
    """Counts matrix products and convolutions (2 per multiply-add); `so_far` can be read during the
    forward.
    """

    def __init__(self) -> None:
        super().__init__(display=False)

    @property
    def so_far(self) -> int:
        return int(self.get_total_flops())
