"""Attention whose tokens are divided among ranks: Ulysses, Ring, and both.

Ulysses (https://arxiv.org/abs/2309.14509): before an attention each rank gives away its tokens' other heads and gets
all tokens of some heads; afterwards the reverse. Ring (https://arxiv.org/abs/2310.01889): each rank keeps its queries,
and keys and values go round; what they give is merged by the logarithm of the sum of exponentials. Unified
(https://arxiv.org/abs/2405.07719): Ulysses within groups, a ring among them.

diffusers has the same in `attention_dispatch`, bound to processors that use its dispatcher. This is our own because
diffusers' cannot take masks (every rank would have to cut the mask to the heads and tokens that it has), needs another
message about sizes where tokens do not divide, exchanges also tokens that every rank holds whole, cannot be counted in
a compiled graph, and has no ring on the CPU. Tensors are (batch, heads, tokens, head size), as torch has them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ...errors import RunError
from .collectives import exchange
from .groups import Place
from .masks import select_mask, widen_mask
from .partial_attention import attend_with_lse, merge
from .shares import Segment, Shares, divide, list_positions

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class ParallelAttention:
    """A function like torch's attention, for queries, keys and values of which each rank has some tokens."""

    place: Place
    shares: Shares
    queries: tuple[str, ...]
    """The streams of the queries, in their order."""
    keys: tuple[str, ...]
    """The streams of keys and values."""
    attend: Callable[..., Tensor]
    """Computes attention on one rank, with the arguments of torch's."""
    pairs: bool = False
    """True if masks on this rank are of pairs of its own tokens: a pair counts where both tokens do."""

    def __call__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        **options: Any,
    ) -> Tensor:
        """Attention over the tokens of all ranks; (batch, heads, this rank's queries, head size)."""
        if not self.shares.active:
            return self.attend(query, key, value, attn_mask, dropout_p, is_causal, **options)
        if is_causal or dropout_p:
            raise RunError("parallel: this model's attention is causal or drops values, which ranks cannot divide")
        if options.pop("enable_gqa", False) and key.shape[1] != query.shape[1]:
            repeats = query.shape[1] // key.shape[1]
            key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
        queries = self.shares.find_segments(self.queries, query.shape[2])
        keys = self.shares.find_segments(self.keys, key.shape[2])
        if attn_mask is not None:
            attn_mask = widen_mask(attn_mask, queries, keys, self.place, pairs=self.pairs)
        heads = divide(query.shape[1], self.place.layout.ulysses)
        q, k, v = self._take_heads(query, key, value, queries, keys, heads)
        if attn_mask is not None and attn_mask.shape[1] > 1:
            first = sum(heads[: self.place.ulysses_rank])
            attn_mask = attn_mask[:, first : first + heads[self.place.ulysses_rank]]
        if self.place.layout.ring == 1:
            result = self.attend(q, k, v, attn_mask, **options)
        else:
            result = self._pass_round(q, k, v, attn_mask, queries, keys, **options)
        return self._return_heads(result, queries, heads)

    def _take_heads(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        queries: Sequence[Segment],
        keys: Sequence[Segment],
        heads: Sequence[int],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Some heads of the whole Ulysses group's tokens. Queries, keys and values go in one message if they can."""
        if self.place.layout.ulysses == 1:
            return query, key, value
        import torch

        if queries == keys:
            q, k, v = self._gather_tokens(torch.cat([query, key, value], -1), queries, heads).chunk(3, -1)
            return q, k, v
        k, v = self._gather_tokens(torch.cat([key, value], -1), keys, heads).chunk(2, -1)
        return self._gather_tokens(query, queries, heads), k, v

    def _gather_tokens(self, tensor: Tensor, segments: Sequence[Segment], heads: Sequence[int]) -> Tensor:
        """All heads of this rank's tokens -> this rank's heads of all tokens, in the order of the segments."""
        import torch

        group = self.place.list_ulysses_group(self.place.ring_rank)
        mine, batch, width = self.place.ulysses_rank, tensor.shape[0], tensor.shape[-1]
        pieces = tensor.split([segment.lengths[self.place.sequence_rank] for segment in segments], 2)
        first = sum(heads[:mine])
        whole = [piece[:, first : first + heads[mine]].transpose(0, 1) for piece in pieces]
        divided = [piece for piece, segment in zip(pieces, segments, strict=True) if not segment.whole]
        if not divided:
            return torch.cat(whole, 2).transpose(0, 1)
        tokens = [sum(segment.lengths[rank] for segment in segments if not segment.whole) for rank in group]
        row = batch * width
        received = exchange(
            _join(divided).transpose(0, 1).reshape(-1),
            [count * tokens[mine] * row for count in heads],
            [heads[mine] * count * row for count in tokens],
            self.place.name_group("ulysses"),
            "all_to_all",
        )
        parts = received.split([heads[mine] * count * row for count in tokens])
        by_rank = [
            part.view(heads[mine], batch, count, width).split(
                [segment.lengths[rank] for segment in segments if not segment.whole], 2
            )
            for part, count, rank in zip(parts, tokens, group, strict=True)
        ]
        ordered: list[Tensor] = []
        position = 0
        for segment, piece in zip(segments, whole, strict=True):
            if segment.whole:
                ordered.append(piece)
                continue
            ordered += [pieces[position] for pieces in by_rank]
            position += 1
        return torch.cat(ordered, 2).transpose(0, 1)

    def _return_heads(self, result: Tensor, segments: Sequence[Segment], heads: Sequence[int]) -> Tensor:
        """This rank's heads of all tokens -> all heads of this rank's tokens: the reverse of `_gather_tokens`.

        Tokens that every rank holds whole get their other heads from the other ranks.
        """
        if self.place.layout.ulysses == 1:
            return result
        import torch

        group = self.place.list_ulysses_group(self.place.ring_rank)
        mine, batch, width = self.place.ulysses_rank, result.shape[0], result.shape[-1]
        ranks = [[0] if segment.whole else group for segment in segments]
        sizes = [segment.lengths[rank] for segment, owners in zip(segments, ranks, strict=True) for rank in owners]
        stretches = iter(result.transpose(0, 1).split(sizes, 2))
        owned: list[list[Tensor]] = [[] for _ in group]
        for segment, owners in zip(segments, ranks, strict=True):
            pieces = [next(stretches) for _ in owners]
            for position, tokens in enumerate(owned):
                tokens.append(pieces[0] if segment.whole else pieces[position])
        counts = [sum(segment.lengths[rank] for segment in segments) for rank in group]
        row = batch * width
        received = exchange(
            torch.cat([_join(tokens).reshape(-1) for tokens in owned]),
            [heads[mine] * count * row for count in counts],
            [count * counts[mine] * row for count in heads],
            self.place.name_group("ulysses"),
            "all_to_all",
        )
        return received.view(sum(heads), batch, counts[mine], width).transpose(0, 1)

    def _pass_round(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        queries: Sequence[Segment],
        keys: Sequence[Segment],
        **options: Any,
    ) -> Tensor:
        """Attention of this group's queries to all keys, which come by one group after the other."""
        import torch

        place, size = self.place, self.place.layout.ring
        rows = list_positions(queries, place.list_ulysses_group(place.ring_rank))
        total: tuple[Tensor, Tensor] | None = None
        travelling = torch.cat([key, value], -1)
        for turn in range(size):
            source = (place.ring_rank - turn) % size
            part = None
            if mask is not None:
                columns = list_positions(keys, place.list_ulysses_group(source), whole=turn == 0)
                part = select_mask(mask, rows, columns)
            k, v = travelling.chunk(2, -1)
            result = attend_with_lse(query, k, v, part, **options)
            total = result if total is None else merge(total, result)
            if turn + 1 < size:
                if turn == 0:
                    travelling = self._drop_whole(travelling, keys)
                travelling = self._pass_on(travelling, keys, source)
        assert total is not None
        return total[0].to(query.dtype)

    def _drop_whole(self, tensor: Tensor, segments: Sequence[Segment]) -> Tensor:
        """Without the tokens that every rank holds: they need not go round."""
        group = self.place.list_ulysses_group(self.place.ring_rank)
        sizes = [segment.total if segment.whole else sum(segment.lengths[r] for r in group) for segment in segments]
        pieces = tensor.split(sizes, 2)
        return _join([piece for piece, segment in zip(pieces, segments, strict=True) if not segment.whole])

    def _pass_on(self, tensor: Tensor, segments: Sequence[Segment], source: int) -> Tensor:
        """Sends keys and values to the next group of the ring, and returns those that the previous one had.

        source: the group whose they are.
        """
        size, mine = self.place.layout.ring, self.place.ring_rank
        group = self.place.list_ulysses_group((source - 1) % size)
        tokens = sum(segment.lengths[rank] for segment in segments if not segment.whole for rank in group)
        shape = (*tensor.shape[:2], tokens, tensor.shape[3])
        elements = shape[0] * shape[1] * shape[2] * shape[3]
        send, receive = [0] * size, [0] * size
        send[(mine + 1) % size], receive[(mine - 1) % size] = tensor.numel(), elements
        return exchange(tensor.reshape(-1), send, receive, self.place.name_group("ring"), "ring").view(shape)


def _join(tensors: Sequence[Tensor]) -> Tensor:
    """Along the tokens; without a copy where there is only one."""
    import torch

    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors), 2)


@lru_cache(maxsize=1)
def get_plain_attention() -> Callable[..., Tensor]:
    """Torch's own attention."""
    from torch.nn.functional import scaled_dot_product_attention

    attend: Callable[..., Tensor] = scaled_dot_product_attention
    return attend
