"""Every sampler as data: its diffusers scheduler for each kind of model, and its options.

Names follow ComfyUI, A1111 and diffusers' own table of A1111's names. One name selects the right class for the model:
`euler` is FlowMatchEulerDiscreteScheduler on a flow model and EulerDiscreteScheduler on a diffusion model. The config
group's options, the builder, the rules and the table of what is supported are all derived from here.

Left out: DPMSolverSDEScheduler, which needs the package torchsde and draws noise that no generator controls;
IPNDMScheduler, which has its own noise schedule with times between 0 and 1; and the EDM, SCM, consistency, UnCLIP,
Piflow and Helios schedulers, which belong to models trained for them and are used there by `sampler=default`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Sigmas(Enum):
    """Spacing of the noise levels over the steps."""

    uniform = "uniform"
    """Even in training time, with the model's shift."""
    karras = "karras"
    """Karras et al. 2022, https://arxiv.org/abs/2206.00364: more steps at low noise."""
    exponential = "exponential"
    """Even in the logarithm of the noise level."""
    beta = "beta"
    """Quantiles of a beta distribution, https://arxiv.org/abs/2407.12173: more steps at both ends."""


class TimestepSpacing(Enum):
    """Which of the training's timesteps are used, as in table 2 of https://arxiv.org/abs/2305.08891."""

    linspace = "linspace"
    """Even, with the first and the last one."""
    leading = "leading"
    """Even, without the last one, so that the first step does not begin at pure noise."""
    trailing = "trailing"
    """Even, counted from the last one: what Lightning, Hyper and Turbo models and zero terminal SNR need."""


FLOW, DIFFUSION, COGVIDEOX = "flow", "diffusion", "cogvideox"
"""Kinds of models, as in `Family.schedule`: flow matching; DDPM noise with epsilon or v prediction; and CogVideoX,
whose shifted DDPM noise only its own schedulers support."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option of a sampler."""

    type: Any
    default: Any
    kinds: tuple[str, ...] = (FLOW, DIFFUSION, COGVIDEOX)
    """Kinds of models on which it takes effect."""
    allowed: tuple[Any, ...] = ()
    """Allowed values; empty: any number from `minimum` up."""
    minimum: float = 0.0
    exclusive: bool = False
    """Whether `minimum` itself is not allowed."""
    maximum: float | None = None


SHIFT = Option(type=float | None, default=None, kinds=(FLOW,), exclusive=True)
"""A fixed shift of the noise levels for every image size; null: the model's own, which may depend on the size. A higher
shift spends more steps at high noise."""

STOCHASTIC = Option(type=bool, default=False, kinds=(FLOW,), allowed=(False, True))
"""Jump to the predicted image and add fresh noise in each step, instead of following the flow."""

SHIFT_TERMINAL = Option(type=float | None, default=None, kinds=(FLOW,), maximum=0.9)
"""The noise level that the last step begins at, to which all are stretched; 0: not stretched; null: the model's own
(0.02 of Qwen-Image, 0.1 of LTX-Video)."""

ORDER = Option(type=int, default=2, allowed=(2, 3))
"""Order of the multistep solver."""


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """One sampler: its diffusers classes, its options, and what the rules need to know about it."""

    about: str
    """What it does, in one line."""
    classes: dict[str, str]
    """Kind of model -> class name in diffusers."""
    spacing_kinds: tuple[str, ...] = ()
    """Kinds of models on which the option `sigmas` exists."""
    own_timesteps: bool = False
    """Whether its class ignores `timestep_spacing` and chooses the timesteps itself."""
    options: dict[str, Option] = field(default_factory=dict)
    """Its own options. `sigmas` is added for `spacing_kinds`, `shift` where it steps flow models, and
    `timestep_spacing` where it steps others and has no `own_timesteps`."""
    fixed: dict[str, Any] = field(default_factory=dict)
    """Class arguments that make it this sampler."""
    noise: bool | str = False
    """Whether each step draws fresh noise; a name: if that option is set."""
    calls_per_step: int = 1
    """Denoiser calls in each step."""
    extra_calls: int = 0
    """Denoiser calls on top, per generation: -1 where the last step needs one less, 1 where the second has two."""
    max_steps: dict[str, int] = field(default_factory=dict)
    """Kind of model -> the most steps it can take there."""
    not_from_image: tuple[str, ...] = ()
    """Kinds of models on which it cannot start from an image: diffusers' flow pipelines count denoiser calls as steps
    there, and would skip too many."""
    distilled: str = ""
    """The kind of distillation that the weights need; empty: none."""


def _dpmpp(
    about: str, order: int, *, sde: bool = False, kind: str = "DPMSolverMultistepScheduler", own_timesteps: bool = False
) -> Sampler:
    algorithm = "sde-dpmsolver++" if sde else "dpmsolver++"
    return Sampler(
        about=about,
        classes={FLOW: kind, DIFFUSION: kind},
        spacing_kinds=(FLOW, DIFFUSION),
        own_timesteps=own_timesteps,
        fixed={"algorithm_type": algorithm, "solver_order": order, "lower_order_final": True},
        noise=sde,
    )


SAMPLERS: dict[str, Sampler] = {
    "euler": Sampler(
        about="Euler, the plain step",
        classes={FLOW: "FlowMatchEulerDiscreteScheduler", DIFFUSION: "EulerDiscreteScheduler"},
        spacing_kinds=(FLOW, DIFFUSION),
        options={"stochastic": STOCHASTIC, "shift_terminal": SHIFT_TERMINAL},
        noise="stochastic",
    ),
    "euler_ancestral": Sampler(
        about="Euler to below the next noise level, then fresh noise up to it",
        classes={FLOW: "LTXEulerAncestralRFScheduler", DIFFUSION: "EulerAncestralDiscreteScheduler"},
        spacing_kinds=(FLOW,),
        options={"eta": Option(type=float, default=1.0, kinds=(FLOW,))},
        noise=True,
    ),
    "heun": Sampler(
        about="Heun's method: an Euler step, corrected at its end; two denoiser calls a step",
        classes={FLOW: "FlowMatchHeunDiscreteScheduler", DIFFUSION: "HeunDiscreteScheduler"},
        spacing_kinds=(FLOW, DIFFUSION),
        calls_per_step=2,
        extra_calls=-1,
        not_from_image=(FLOW,),
    ),
    "dpm2": Sampler(
        about="DPM2, a midpoint step, as in k-diffusion; two denoiser calls a step",
        classes={DIFFUSION: "KDPM2DiscreteScheduler"},
        spacing_kinds=(DIFFUSION,),
        calls_per_step=2,
        extra_calls=-1,
    ),
    "dpm2_ancestral": Sampler(
        about="DPM2 with fresh noise in each step",
        classes={DIFFUSION: "KDPM2AncestralDiscreteScheduler"},
        spacing_kinds=(DIFFUSION,),
        noise=True,
        calls_per_step=2,
        extra_calls=-1,
    ),
    "lms": Sampler(
        about="linear multistep of order 4, as in k-diffusion",
        classes={DIFFUSION: "LMSDiscreteScheduler"},
        spacing_kinds=(DIFFUSION,),
    ),
    "dpmpp_2m": _dpmpp("DPM-Solver++ of order 2, multistep, https://arxiv.org/abs/2211.01095", 2),
    "dpmpp_3m": _dpmpp("DPM-Solver++ of order 3, multistep", 3),
    "dpmpp_2m_sde": _dpmpp("the stochastic DPM-Solver++ of order 2, multistep", 2, sde=True),
    "dpmpp_3m_sde": _dpmpp("the stochastic DPM-Solver++ of order 3, multistep", 3, sde=True),
    "dpmpp_2s": _dpmpp(
        "DPM-Solver++ of order 2, singlestep: alternating steps of order 1 and 2",
        2,
        kind="DPMSolverSinglestepScheduler",
        own_timesteps=True,
    ),
    "deis": Sampler(
        about="DEIS, an exponential integrator, https://arxiv.org/abs/2204.13902",
        classes={FLOW: "DEISMultistepScheduler", DIFFUSION: "DEISMultistepScheduler"},
        spacing_kinds=(FLOW, DIFFUSION),
        options={"order": ORDER},
        fixed={"algorithm_type": "deis", "solver_type": "logrho"},
    ),
    "unipc": Sampler(
        about="UniPC, a higher-order predictor-corrector, https://arxiv.org/abs/2302.04867",
        classes={FLOW: "UniPCMultistepScheduler", DIFFUSION: "UniPCMultistepScheduler"},
        spacing_kinds=(FLOW, DIFFUSION),
        options={"order": ORDER},
    ),
    "sasolver": Sampler(
        about="SA-Solver, stochastic Adams, https://arxiv.org/abs/2309.05019",
        classes={FLOW: "SASolverScheduler", DIFFUSION: "SASolverScheduler"},
        spacing_kinds=(FLOW, DIFFUSION),
        fixed={"algorithm_type": "data_prediction"},
        noise=True,
    ),
    "ddim": Sampler(
        about="DDIM, https://arxiv.org/abs/2010.02502",
        classes={DIFFUSION: "DDIMScheduler", COGVIDEOX: "CogVideoXDDIMScheduler"},
        options={"eta": Option(type=float, default=0.0, kinds=(DIFFUSION,))},
        noise="eta",
    ),
    "ddpm": Sampler(
        about="the stochastic step of DDPM, for many steps, https://arxiv.org/abs/2006.11239",
        classes={DIFFUSION: "DDPMScheduler"},
        noise=True,
    ),
    "pndm": Sampler(
        about="PNDM (PLMS), https://arxiv.org/abs/2202.09778; the second step needs two denoiser calls",
        classes={DIFFUSION: "PNDMScheduler"},
        fixed={"skip_prk_steps": True},
        extra_calls=1,
    ),
    "lcm": Sampler(
        about="the step of latent consistency models, https://arxiv.org/abs/2310.04378",
        classes={FLOW: "FlowMatchLCMScheduler", DIFFUSION: "LCMScheduler"},
        spacing_kinds=(FLOW,),
        noise=True,
        own_timesteps=True,
        max_steps={DIFFUSION: 50},
        distilled="consistency",
    ),
    "tcd": Sampler(
        about="the step of trajectory consistency distillation, https://arxiv.org/abs/2402.19159",
        classes={DIFFUSION: "TCDScheduler"},
        options={"eta": Option(type=float, default=0.3, kinds=(DIFFUSION,))},
        noise="eta",
        own_timesteps=True,
        max_steps={DIFFUSION: 50},
        distilled="trajectory consistency",
    ),
    "cogvideox_dpm": Sampler(
        about="the stochastic DPM-Solver++ of CogVideoX",
        classes={COGVIDEOX: "CogVideoXDPMScheduler"},
        noise=True,
    ),
}
