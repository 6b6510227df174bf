"""An experiment: which agent is trained on what, and how. The command line makes one, and config.json holds one."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from metarl.agents import entry, find
from metarl.errors import UserError
from metarl.runs.config import Config
from metarl.runs.io_spec import IoSpec
from metarl.runs.options import LoopOptions, options_of
from metarl.system.devices import choose_device
from metarl.system.json_types import convert
from metarl.system.user_code import FileNote


@dataclass(frozen=True)
class Experiment:
    """All that determines a training, apart from machine and versions.

    Attributes:
        agent: name of the agent, or label of one in the user's file.
        suite: name of the suite or data set, or label of a suite in the user's file.
        options: options of the agent's kind of training.
        settings: settings of the agent, a dataclass of its own.
        files: notes on the user's files, by label.
        io_spec: the agent's inputs and outputs; None: not known yet.
    """

    agent: str
    suite: str
    options: LoopOptions
    settings: Any
    files: Mapping[str, FileNote] = field(default_factory=dict)
    io_spec: IoSpec | None = None

    @property
    def training(self) -> str:
        """The agent's kind of training, see `metarl.agents`."""
        return entry(self.agent).training

    @property
    def suite_name(self) -> str:
        """The suite's name without its folder on this machine."""
        kind, _, place = self.suite.partition(":")
        return f"{kind}:{Path(place).name}" if kind in ("folder", "csv") else self.suite

    @property
    def encoder_name(self) -> str | None:
        """The name of the sentence encoder without its folder on this machine; None: there is none."""
        name = getattr(self.options, "sentence_encoder", None)
        return Path(name).name if name is not None and Path(name).expanduser().is_absolute() else name

    def changed(self, **options: Any) -> Self:
        """The same experiment with these values of options."""
        return replace(self, options=replace(self.options, **options))

    def resolved(self) -> Self:
        """The same experiment with "auto" replaced by what it stands for on this machine, where that affects results.

        This covers the device, and what the settings' own `resolved(device)` replaces. It does not cover the engine: the
        engines agree to within rounding.
        """
        device, settings = choose_device(self.options.device).type, self.settings
        settings = settings.resolved(device) if hasattr(settings, "resolved") else settings
        return replace(self.changed(device=device), settings=settings)

    def to_json(self) -> dict[str, Any]:
        """The experiment's entries of config.json, without those that are empty."""
        content = {
            "agent": self.agent,
            "suite": self.suite,
            **({"files": dict(self.files)} if self.files else {}),
            "options": {**asdict(self.options), "run_dir": None},
            "settings": asdict(self.settings),
            **({} if self.io_spec is None else {"io_spec": self.io_spec}),
        }
        return json.loads(json.dumps(content))  # as a reader of the file finds it: lists instead of tuples

    @classmethod
    def from_json(cls, config: Config, file: str) -> Self:
        """The experiment that config.json holds.

        Options and settings that it does not name get their defaults.

        Args:
            config: the content.
            file: name of the file, for messages.

        Raises:
            UserError: there is no such agent here, the user has not named its file, or an option or setting is unknown, of
                another type or out of range.
        """
        agent = config["agent"]
        options_class, settings_class = options_of(agent), type(find(agent)[1]["default"].settings)
        try:
            options = convert(config["options"], options_class, "options")
            settings = convert(config["settings"], settings_class, "settings")
        except ValueError as error:
            raise UserError(f"{file}: {error}") from None
        return cls(agent, config["suite"], options, settings, config.get("files", {}), config.get("io_spec"))
