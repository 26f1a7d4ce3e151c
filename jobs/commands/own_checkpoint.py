"""The options that say which weights of one's own a command takes, the same for every command that loads one model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

if TYPE_CHECKING:
    from pipeline.models import ModelRequest


@Parameter(name="*")
@dataclass(frozen=True)
class OwnCheckpoint:
    """Weights of one's own, and how the model is built for them."""

    weights: Annotated[str | None, Parameter(help="A weights file, folder or URL of your own.")] = None
    as_name: Annotated[str | None, Parameter(name="--as", help="The name of the model with these weights.")] = None
    input_size: Annotated[str | None, Parameter(help="Pixels: a side, or HEIGHTxWIDTH (default: the model's).")] = None
    which: Annotated[str | None, Parameter(help="Of several models in --weights, the prefix of the one meant.")] = None
    model_args: Annotated[
        tuple[str, ...], Parameter(help="NAME=VALUE for the architecture's constructor; repeatable.", negative="")
    ] = ()
    class_names: Annotated[str | None, Parameter(help="Names of the classifier's outputs: a file, one a line.")] = None

    def request(self, model: str, **more: Any) -> ModelRequest:
        """Of this model. more: fields that the command sets itself. BadConfig, as `run` gives it, for bad values."""
        from jobs.config import config_from_mapping

        named = {"weights": self.weights, "name": self.as_name, "which": self.which, "class_names": self.class_names}
        given = {name: value for name, value in named.items() if value is not None}
        if self.input_size is not None:
            given["input_size"] = self.input_size
        entry = {"model": model, **given, "model_args": list(self.model_args), **more}
        return config_from_mapping({"models": [entry], "out": "unused"}).models[0].request()


NONE = OwnCheckpoint()
