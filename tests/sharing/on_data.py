"""The functions of claims, for records as plain data, as record.json has them: so that a test can change anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wavespeed_runner.config.schema import ClaimConfig
from wavespeed_runner.records.file import record_from_data
from wavespeed_runner.sharing import claim as claims
from wavespeed_runner.sharing import verdict, verdict_text

Data = dict[str, Any]


def claim_of(record: Data) -> ClaimConfig:
    return claims.claim_of(record_from_data(record))


def differences(claim: ClaimConfig, record: Data) -> list[str]:
    return claims.differences(claim, record_from_data(record))


def judge(claim: ClaimConfig, record: Data) -> list[verdict.Judged]:
    return verdict.judge(claim, record_from_data(record))


def headline(claim: ClaimConfig, record: Data, parts: Sequence[verdict.Judged]) -> str:
    return verdict_text.headline(claim, record_from_data(record), parts)
