"""What is particular to the training of the transformer."""

import torch

from training import flow, text, transformer


def test_an_untrained_transformer_predicts_zero() -> None:
    """The zeroed layers are the right ones: the first loss is that of predicting nothing."""
    model = transformer.build()
    image, words = transformer.position_ids(torch.device("cpu"))
    made = model(
        hidden_states=torch.randn(1, 64, 16),
        timestep=torch.tensor([0.5]),
        encoder_hidden_states=torch.randn(1, text.LENGTH, text.WIDTH),
        pooled_projections=torch.randn(1, text.WIDTH),
        img_ids=image,
        txt_ids=words,
        return_dict=False,
    )[0]
    assert torch.equal(made, torch.zeros_like(made))
    assert any(p.abs().sum() > 0 for p in model.parameters())


def test_sigmas_lie_inside_and_mostly_high() -> None:
    sigmas = flow.draw_sigmas(10_000, 0.2, torch.Generator().manual_seed(0))
    assert ((sigmas > 0) & (sigmas < 1)).all()
    assert 0.55 < sigmas.mean() < 0.65
