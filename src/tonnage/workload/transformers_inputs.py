"""Inputs for a transformers model, after its forward's signature and its config."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from tonnage.errors import BadOption
from tonnage.scenario import Scenario
from tonnage.workload import tensors
from tonnage.workload.layers import HINT
from tonnage.workload.positions import absolute_positions
from tonnage.workload.transformers_labels import add_labels
from tonnage.workload.workload import Inputs

_SEQ = 128
_CHOICES = 4
_FRAMES = 1000  # 10 s of audio at the usual hop of 10 ms
_SAMPLES = 16000  # 1 s
_COPY_THEIR_INPUT = ("SequenceClassification", "QuestionAnswering")
"""Encoder-decoder models of these tasks feed their decoder with the encoder's tokens."""

_SIDES = (("Detection", 800), ("Detr", 800), ("Segmentation", 512))
"""Image sizes of the processors where the config names none, by a part of the class name."""
_SIDE = 224


def knows(model: nn.Module) -> bool:
    """Whether `model` says in transformers' way what it takes."""
    config = getattr(model, "config", None)
    return hasattr(config, "model_type") and hasattr(config, "get_text_config")


def make(model: nn.Module, scenario: Scenario) -> Inputs:
    """Inputs that fit `model`; BadOption if an option means nothing to it, or if something cannot be guessed."""
    maker = Maker(model, scenario)
    maker.check_options()
    maker.add_text()
    maker.add_images()
    maker.add_audio()
    if scenario.training:
        add_labels(maker)
    maker.add_decoder()
    maker.check_complete()
    return Inputs(kwargs=maker.kwargs, origins=maker.origins, guesses=tuple(maker.guesses))


@dataclass
class Maker:
    """Collects inputs by name, with where their shapes come from."""

    model: nn.Module
    scenario: Scenario
    kwargs: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    guesses: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.class_name = type(self.model).__name__
        self.config: Any = self.model.config
        self.parameters = dict(inspect.signature(self.model.forward).parameters)
        self.batch = self.scenario.batch
        self.is_encoder_decoder = bool(getattr(self.config, "is_encoder_decoder", False))
        self.mixes_tokens = any(True for _ in _media_tokens(self.config)) and self._takes("input_ids")
        self.takes_text = self._takes("input_ids")
        self.takes_images = self._takes("pixel_values") and not self.mixes_tokens
        self.takes_audio = next((n for n in ("input_features", "input_values") if self._takes(n)), "")
        self.takes_audio = "" if self.mixes_tokens else self.takes_audio
        self.decodes = self.is_encoder_decoder and self._takes("decoder_input_ids")

    def put(self, name: str, value: Any, origin: str, said: str = "") -> None:
        self.kwargs[name] = value
        self.origins[name] = origin
        if said:
            self.guesses.append(f"{name}: {said}")

    def check_options(self) -> None:
        if self.scenario.seq is not None and not (self.takes_text or self.decodes):
            raise BadOption(f"{self.class_name} takes no tokens, so seq means nothing to it", hint="leave seq out")
        if self.scenario.image_size is not None and not self.takes_images:
            why = "takes images only between tokens" if self.mixes_tokens else "takes no images"
            hint = HINT if self.mixes_tokens else "leave image_size out"
            raise BadOption(f"{self.class_name} {why}, so image_size cannot be set", hint=hint)

    def check_complete(self) -> None:
        variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        missing = [
            name
            for name, parameter in self.parameters.items()
            if parameter.default is parameter.empty and parameter.kind not in variadic and name not in self.kwargs
        ]
        if missing or not self.kwargs:
            raise BadOption(
                f"no input can be guessed for {', '.join(missing) or 'the parameters'} of {self.class_name}.forward",
                hint=HINT,
            )

    # ---- text

    def add_text(self) -> None:
        if not self.takes_text:
            return
        shape: tuple[int, ...] = (self.batch, self.seq)
        if self.class_name.endswith("ForMultipleChoice"):
            shape = (self.batch, _CHOICES, self.seq)
            self.guesses.append(f"input_ids: {_CHOICES} choices for each question")
        ids = self.random_ids(shape)
        eos = getattr(self.config, "eos_token_id", None)
        if self.decodes and self.class_name.endswith("SequenceClassification") and isinstance(eos, int):
            ids[:, -1] = eos  # it classifies by the state at that token
        self.put("input_ids", ids, self.seq_origin, _times(shape, "random token ids"))
        if self._takes("attention_mask"):
            self.put("attention_mask", tensors.ones(shape), self.seq_origin, "all ones, no padding")
        if self._needs_token_types():
            self.put("token_type_ids", tensors.zeros(shape), self.seq_origin, "all zeros, one segment")
        if self._takes("bbox"):
            self.put("bbox", tensors.zeros((*shape, 4)), self.seq_origin, "all zeros")
        if self.mixes_tokens:
            self.guesses.append("text only: no image, video or audio between the tokens")

    def random_ids(self, shape: tuple[int, ...]) -> torch.Tensor:
        return tensors.random_ids(shape, self.vocabulary, avoid=_special_ids(self.config))

    @property
    def vocabulary(self) -> int:
        return int(self._text_config(decoder=self.is_encoder_decoder).vocab_size)

    def _text_config(self, *, decoder: bool) -> Any:
        return self.config.get_text_config(decoder=True) if decoder else self.config.get_text_config()

    @property
    def seq(self) -> int:
        """Tokens into the encoder, or the only stack."""
        return self._length(decoder=False, default=_SEQ)

    @property
    def seq_origin(self) -> str:
        return "seq" if self.scenario.seq is not None else "tonnage's default seq"

    def _length(self, *, decoder: bool, default: int) -> int:
        limit = absolute_positions(self.model, decoder=decoder if self.is_encoder_decoder else None)
        trained = getattr(self._text_config(decoder=decoder), "max_position_embeddings", None)
        trained = trained if isinstance(trained, int) and trained > 0 else None
        wanted = self.scenario.seq
        if wanted is None:
            sizes = [default, *([limit.room] if limit else []), *([trained] if trained else [])]
            self._say(f"seq was not given: {min(sizes)} tokens taken")
            return min(sizes)
        if limit and wanted > limit.room:
            raise BadOption(
                f"seq={wanted} is beyond the {limit.room} positions of {self.class_name} ({limit.path})",
                hint=f"use seq={limit.room} or less, or a config with more positions",
            )
        if not limit and trained and wanted > trained:
            self._say(f"seq {wanted} is beyond max_position_embeddings {trained}: the model's positions go on past it")
        return wanted

    def _say(self, guess: str) -> None:
        if guess not in self.guesses:
            self.guesses.append(guess)

    def _needs_token_types(self) -> bool:
        """Gemma 3 and PaliGemma refuse to train without; everything else makes its own."""
        return self._takes("token_type_ids") and (
            self._requires("token_type_ids") or (self.scenario.training and self.mixes_tokens)
        )

    # ---- images

    def add_images(self) -> None:
        if not self.takes_images:
            return
        (height, width), origin = self.image_sides()
        frames = getattr(self.config, "num_frames", None)
        shape = (self.batch, *([frames] if frames else []), self._channels(), height, width)
        pixels = tensors.random_features(shape, tensors.float_dtype(self.model))
        self.put("pixel_values", pixels, origin, _times(shape, f"random pixels, size: {origin}"))
        if self._takes("pixel_mask"):
            mask = tensors.ones((self.batch, height, width))
            self.put("pixel_mask", mask, origin, "all ones, no padding")
        if self._takes("interpolate_pos_encoding") and (height, width) != self._own_sides()[0]:
            self.put("interpolate_pos_encoding", True, origin, "another image_size than the model's own")
        if self._takes("input_boxes"):
            boxes = tensors.zeros((self.batch, 1, 4), tensors.float_dtype(self.model))
            self.put("input_boxes", boxes, "one prompt", "one box for each image")

    def image_sides(self) -> tuple[tuple[int, int], str]:
        """Height and width, and what decided them."""
        side = self.scenario.image_size
        return ((side, side), "image_size") if side else self._own_sides()

    def _own_sides(self) -> tuple[tuple[int, int], str]:
        for prefix, config in _image_configs(self.config):
            for name in ("image_size", "input_size", "img_size"):
                size = getattr(config, name, None)
                if isinstance(size, int):
                    return (size, size), f"{prefix}.{name}"
                if isinstance(size, list | tuple) and len(size) == 2:
                    return (int(size[0]), int(size[1])), f"{prefix}.{name}"
        side = next((side for part, side in _SIDES if part in self.class_name), _SIDE)
        return (side, side), "tonnage's default"

    def _channels(self) -> int:
        found = (getattr(config, "num_channels", None) for _, config in _image_configs(self.config))
        return next((n for n in found if isinstance(n, int)), 3)

    # ---- audio

    def add_audio(self) -> None:
        if not self.takes_audio:
            return
        shape, origin = self._audio_shape()
        features = tensors.random_features(shape, tensors.float_dtype(self.model))
        self.put(self.takes_audio, features, origin, _times(shape, f"random numbers, shape: {origin}"))

    def _audio_shape(self) -> tuple[tuple[int, ...], str]:
        config = getattr(self.config, "encoder", self.config)
        bins = getattr(config, "num_mel_bins", None)
        positions = getattr(config, "max_source_positions", None)
        if self.takes_audio == "input_values":
            length = getattr(config, "max_length", None)
            if bins and length:
                return (self.batch, length, bins), "config.max_length, config.num_mel_bins"
            return (self.batch, _SAMPLES), "tonnage's default of 1 s at 16 kHz"
        if width := getattr(config, "input_feat_per_channel", None) or getattr(
            config, "feature_projection_input_dim", None
        ):
            return (self.batch, _FRAMES, width), f"the config's features and tonnage's default of {_FRAMES} frames"
        if bins and positions:  # the encoder's second convolution halves the frames
            return (self.batch, bins, 2 * positions), "config.num_mel_bins, 2 × config.max_source_positions"
        raise BadOption(f"no shape of {self.takes_audio} can be guessed for {self.class_name}", hint=HINT)

    # ---- decoder

    def add_decoder(self) -> None:
        start = getattr(self.config, "decoder_start_token_id", None)
        shifts_labels = "labels" in self.kwargs and start is not None
        if not self.decodes or shifts_labels or self.class_name.endswith(_COPY_THEIR_INPUT):
            return
        start = start or 0
        length = self.decoder_length()
        shape = (self.batch, length)
        ids = torch.full(shape, start, dtype=torch.int64, device="cpu")
        self.put("decoder_input_ids", ids, self.decoder_origin, _times(shape, f"start tokens ({start})"))

    def decoder_length(self) -> int:
        """Tokens into the decoder: one to predict from, or in training as many as there are labels.

        Where the encoder takes no tokens, seq is the decoder's.
        """
        if self.scenario.training or (not self.takes_text and self.scenario.seq is not None):
            return self._length(decoder=True, default=_SEQ)
        return 1

    @property
    def decoder_origin(self) -> str:
        return "the first step of decoding" if self.decoder_length() == 1 else self.seq_origin

    def _takes(self, name: str) -> bool:
        return name in self.parameters

    def _requires(self, name: str) -> bool:
        return self.parameters[name].default is inspect.Parameter.empty


def _times(shape: tuple[int, ...], what: str) -> str:
    return f"{' × '.join(map(str, shape))} {what}"


def _configs(config: Any) -> Iterator[Any]:
    yield config
    for name in getattr(type(config), "sub_configs", {}):
        if (sub := getattr(config, name, None)) is not None:
            yield from _configs(sub)


def _image_configs(config: Any) -> Iterator[tuple[str, Any]]:
    yield "config", config
    for name in ("vision_config", "encoder"):
        if (sub := getattr(config, name, None)) is not None:
            yield f"config.{name}", sub


def _special_ids(config: Any) -> Iterator[int]:
    for part in _configs(config):
        for name, value in vars(part).items():
            if name.endswith(("_token_id", "_token_index")):
                yield from (n for n in (value if isinstance(value, list) else [value]) if isinstance(n, int))


def _media_tokens(config: Any) -> Iterator[str]:
    """Tokens that stand for images, videos or sound: such a model reads those between its tokens."""
    for name, value in vars(config).items():
        if name.startswith(("image_token", "video_token", "audio_token")) and isinstance(value, int):
            yield name
