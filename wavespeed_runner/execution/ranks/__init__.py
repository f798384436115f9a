"""Ranks: the processes that compute one image together. The runner starts, watches and ends them itself.

Rank 0 is the main process. It plans, stores, records and prints as without ranks. The others repeat single calls of
stages on its word (`stage(..., collective=True)`): they load their own copy of the model and denoise with the same
options and inputs, and inside these calls the ranks exchange tensors through torch.distributed. What they return is
thrown away. So there is one flow of control, and ranks cannot disagree about what comes next.

`find_ranks` gives the ranks that a call needs; `group.RankGroup` is what they are to rank 0.
"""
