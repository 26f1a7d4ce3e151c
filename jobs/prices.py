"""What a run costs in money, by prices that the user gives."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from atlas_schema.errors import BadConfig, nearest

DEVICES = ("cpu", "cuda", "mps")


class Prices(BaseModel):
    """Prices of a provider, as the user's file has them; what is left out costs nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    currency: str = Field(default="", description="What the amounts are in, such as USD.")
    worker_hour: Mapping[str, float] = Field(
        default_factory=dict, description="Of a worker by its device: cpu, cuda, mps; idle or not."
    )
    put_per_1000: float = Field(default=0.0, ge=0, description="Of a thousand writes to the store.")
    get_per_1000: float = Field(default=0.0, ge=0, description="Of a thousand reads and look-ups.")
    gb_month: float = Field(default=0.0, ge=0, description="Of keeping 10^9 bytes for a month.")

    def cost(self, made: Mapping[str, Any]) -> dict[str, float | str]:
        """Of a plan as `plan_as_dict` gives it: workers, paid from the first unit to the last, and the store."""
        hours = made["estimated_hours"]
        device, workers = hours["device"], hours["workers"]
        if device not in self.worker_hour:
            raise BadConfig(
                f"prices: none for a worker-hour on {device}, which this plan is for; there are prices for "
                f"{', '.join(self.worker_hour) or 'no device'}. Add {device} to [worker_hour], or give --price."
            )
        requests = made["estimated_requests"]
        stored = made["estimated_bytes"] + made["estimated_bytes_kept"]
        parts = {
            "workers": hours["clock_hours"] * workers * self.worker_hour[device],
            "requests": (requests["put"] * self.put_per_1000 + requests["get"] * self.get_per_1000) / 1000,
        }
        month = stored / 1e9 * self.gb_month
        return {"currency": self.currency, **parts, "total": sum(parts.values()), "storage_a_month": month}


def read_prices(path: str | Path) -> Prices:
    """Prices from a TOML file. BadConfig where it cannot be read, or holds what is no price."""
    try:
        found = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise BadConfig(f"{path}: cannot be read ({error.strerror}). Give --prices a TOML file.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadConfig(f'{path}: no TOML ({error}). Expected lines such as `currency = "USD"`.') from error
    try:
        prices = Prices(**found)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        close = nearest(name, list(Prices.model_fields), 1) if first["type"] == "extra_forbidden" else []
        known = ", ".join(Prices.model_fields)
        hint = f"nearest: {close[0]}; " if close else ""
        raise BadConfig(f"{path}: {name}: {first['msg']}; {hint}expected some of {known}") from error
    for device, price in prices.worker_hour.items():
        if device not in DEVICES or price < 0:
            raise BadConfig(
                f"{path}: worker_hour.{device} = {price:g}; expected prices, not below 0, of {', '.join(DEVICES)}"
            )
    return prices


def price_of_hours(price: float, device: str) -> Prices:
    """Prices where a worker's hour is all that costs. BadConfig for one below 0."""
    if price < 0:
        raise BadConfig(f"--price {price:g}: an hour of a worker costs 0 or more")
    return Prices(worker_hour={device: price})
