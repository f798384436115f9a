"""Every sampler as data: which scheduler of diffusers takes its steps on which kind of model, and what it offers.

Names are those of ComfyUI, A1111 and diffusers' own table of A1111's names. One name means the right class for the
model: `euler` is FlowMatchEulerDiscreteScheduler on a flow model and EulerDiscreteScheduler on a diffusion model. The
options of the config group, the builder, the rules and the table of what fits are all read from here.

Not here, and why. DPMSolverSDEScheduler needs the package torchsde, and its noise does not come from a generator.
IPNDMScheduler has a noise schedule of its own, with times between 0 and 1. The EDM, SCM, consistency, UnCLIP, Piflow
and Helios schedulers belong to models trained for them: `sampler=default` takes them there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Sigmas(Enum):
    """How the noise levels of the steps are spaced."""

    uniform = "uniform"
    """Evenly in training time, with the model's shift."""
    karras = "karras"
    """Karras et al. 2022, https://arxiv.org/abs/2206.00364: more steps at low noise."""
    exponential = "exponential"
    """Evenly in the logarithm."""
    beta = "beta"
    """Quantiles of a beta distribution, https://arxiv.org/abs/2407.12173: more steps at both ends."""


FLOW, DIFFUSION, COGVIDEOX = "flow", "diffusion", "cogvideox"
"""Kinds of models, as `Family.schedule` says: flow matching; DDPM noise, epsilon or v predicted; the same with the
shifted noise of CogVideoX, which only its own schedulers know."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """A key of a sampler."""

    type: Any
    default: Any
    kinds: tuple[str, ...] = (FLOW, DIFFUSION, COGVIDEOX)
    """Models on which it can take effect."""
    allowed: tuple[Any, ...] = ()
    """Values; empty: any number in `least` and above."""
    minimum: float = 0.0
    exclusive: bool = False
    """Whether `least` itself is out."""


SHIFT = Option(type=float | None, default=None, kinds=(FLOW,), exclusive=True)
"""One fixed shift of the noise levels for every image size; null: the model's own, also where it depends on the
size. Higher: more steps at high noise."""

STOCHASTIC = Option(type=bool, default=False, kinds=(FLOW,), allowed=(False, True))
"""Jump to the predicted image and add fresh noise each step, instead of following the flow."""

ORDER = Option(type=int, default=2, allowed=(2, 3))
"""Order of the solver."""


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """One sampler."""

    about: str
    classes: dict[str, str]
    """Kind of model -> class in diffusers."""
    spacing_kinds: tuple[str, ...] = ()
    """Kinds of models on which `sigmas` can be chosen."""
    options: dict[str, Option] = field(default_factory=dict)
    """Its keys, beside `sigmas`, and `shift` where it steps flow models."""
    fixed: dict[str, Any] = field(default_factory=dict)
    """Arguments of the class that make it this sampler."""
    noise: bool | str = False
    """Whether steps draw fresh noise; a name: if that option says so."""
    calls_per_step: int = 1
    """Of the denoiser in a step, as `steps` counts them."""
    extra_calls: int = 0
    """Of the denoiser in a generation, beside those: -1 where the last step is one call; 1 where the second is two."""
    max_steps: dict[str, int] = field(default_factory=dict)
    """Kind of models -> how many steps it has there at most."""
    not_from_image: tuple[str, ...] = ()
    """Kinds of models on which it cannot start from an image: diffusers' pipelines of flow models take the calls of
    the denoiser for steps there, and would skip too many."""
    distilled: str = ""
    """What weights it needs to have been distilled for; empty: none."""


def _dpmpp(about: str, order: int, *, sde: bool = False, kind: str = "DPMSolverMultistepScheduler") -> Sampler:
    algorithm = "sde-dpmsolver++" if sde else "dpmsolver++"
    return Sampler(
        about=about,
        classes={FLOW: kind, DIFFUSION: kind},
        spacing_kinds=(FLOW, DIFFUSION),
        fixed={"algorithm_type": algorithm, "solver_order": order, "lower_order_final": True},
        noise=sde,
    )


SAMPLERS: dict[str, Sampler] = {
    "euler": Sampler(
        about="Euler, the plain step",
        classes={FLOW: "FlowMatchEulerDiscreteScheduler", DIFFUSION: "EulerDiscreteScheduler"},
        spacing_kinds=(FLOW, DIFFUSION),
        options={"stochastic": STOCHASTIC},
        noise="stochastic",
    ),
    "euler_ancestral": Sampler(
        about="Euler to a lower noise level than wanted, then fresh noise up to it",
        classes={FLOW: "LTXEulerAncestralRFScheduler", DIFFUSION: "EulerAncestralDiscreteScheduler"},
        spacing_kinds=(FLOW,),
        options={"eta": Option(type=float, default=1.0, kinds=(FLOW,))},
        noise=True,
    ),
    "heun": Sampler(
        about="Heun's method: a step of Euler, corrected at its end; two calls of the denoiser",
        classes={FLOW: "FlowMatchHeunDiscreteScheduler", DIFFUSION: "HeunDiscreteScheduler"},
        spacing_kinds=(FLOW, DIFFUSION),
        calls_per_step=2,
        extra_calls=-1,
        not_from_image=(FLOW,),
    ),
    "dpm2": Sampler(
        about="DPM2, a step by way of its middle, as in k-diffusion; two calls of the denoiser",
        classes={DIFFUSION: "KDPM2DiscreteScheduler"},
        spacing_kinds=(DIFFUSION,),
        calls_per_step=2,
        extra_calls=-1,
    ),
    "dpm2_ancestral": Sampler(
        about="DPM2 with fresh noise each step",
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
        "DPM-Solver++ of order 2: steps of order 1 and 2 in turn", 2, kind="DPMSolverSinglestepScheduler"
    ),
    "deis": Sampler(
        about="DEIS, an exponential integrator, https://arxiv.org/abs/2204.13902",
        classes={FLOW: "DEISMultistepScheduler", DIFFUSION: "DEISMultistepScheduler"},
        spacing_kinds=(FLOW, DIFFUSION),
        options={"order": ORDER},
        fixed={"algorithm_type": "deis", "solver_type": "logrho"},
    ),
    "unipc": Sampler(
        about="UniPC, a predictor and corrector of higher order, https://arxiv.org/abs/2302.04867",
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
        about="DDPM's own stochastic step, for many steps, https://arxiv.org/abs/2006.11239",
        classes={DIFFUSION: "DDPMScheduler"},
        noise=True,
    ),
    "pndm": Sampler(
        about="PNDM (PLMS), https://arxiv.org/abs/2202.09778; the second step is taken twice",
        classes={DIFFUSION: "PNDMScheduler"},
        fixed={"skip_prk_steps": True},
        extra_calls=1,
    ),
    "lcm": Sampler(
        about="steps of a latent consistency model, https://arxiv.org/abs/2310.04378",
        classes={FLOW: "FlowMatchLCMScheduler", DIFFUSION: "LCMScheduler"},
        spacing_kinds=(FLOW,),
        noise=True,
        max_steps={DIFFUSION: 50},
        distilled="consistency",
    ),
    "tcd": Sampler(
        about="steps of trajectory consistency distillation, https://arxiv.org/abs/2402.19159",
        classes={DIFFUSION: "TCDScheduler"},
        options={"eta": Option(type=float, default=0.3, kinds=(DIFFUSION,))},
        noise="eta",
        max_steps={DIFFUSION: 50},
        distilled="trajectory consistency",
    ),
    "cogvideox_dpm": Sampler(
        about="the DPM-Solver++ of CogVideoX, stochastic",
        classes={COGVIDEOX: "CogVideoXDPMScheduler"},
        noise=True,
    ),
}
