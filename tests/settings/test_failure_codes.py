"""The keys that say how a channel's failure codes are read, and what is watched of receipts."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.check import check
from gateway.errors import ConfigError
from gateway.settings import ReceiptsSettings, Settings, load, packaged_config_dir
from tests.support.config import CHANNELS, ENV, GATEWAY, write_config


def read(folder: Path, channel: str = "", gateway: str = "") -> Settings:
    text = CHANNELS.replace('id = "a"\n', f'id = "a"\n{channel}\n', 1)
    return load(write_config(folder, channels=text, gateway=GATEWAY + gateway), ENV)


def test_a_channels_codes(tmp_path: Path) -> None:
    lines = (
        'carrier = "china-unicom"\nerror_table = "smrse"\n'
        'failure_codes = { "MK:0010" = "powered-off", "0x0000040a" = { reason = "blacklisted", permanent = false } }'
    )
    channel = read(tmp_path, lines).channels[0]
    assert (channel.carrier, channel.error_table) == ("china-unicom", "smrse")
    assert channel.failure_codes == (("MK:0010", "powered-off", None), ("0x0000040A", "blacklisted", False))
    plain = read(tmp_path).channels[0]
    assert (plain.carrier, plain.error_table, plain.failure_codes) == ("", "", ())


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ('failure_codes = "MK:0010"', "failure_codes: a table of at most 1000 codes is wanted"),
        ('failure_codes = { "MK:0010" = "off" }', "failure_codes: MK:0010: the reason must be one of invalid-number"),
        ('failure_codes = { "MK:0010" = 7 }', "failure_codes: MK:0010: the reason must be one of"),
        ('failure_codes = { "" = "unknown" }', "failure_codes: a code is 1 to 32 printable ASCII characters"),
        (f'failure_codes = {{ "{"x" * 33}" = "unknown" }}', "failure_codes: a code is 1 to 32 printable"),
        ('failure_codes = { "X" = { reason = "unknown", why = 1 } }', "failure_codes: X: a reason is wanted, or {"),
        (
            'failure_codes = { "X" = { reason = "unknown", permanent = 1 } }',
            "failure_codes: X: permanent must be true or false",
        ),
        (
            'failure_codes = { "0x0000040a" = "unknown", "0X0000040A" = "unknown" }',
            "failure_codes: a code stands twice",
        ),
        ('error_table = "isup"', "error_table: "),
        ('carrier = "China Mobile"', "carrier: 1 to 32 characters"),
    ],
)
def test_a_wrong_key_is_told_with_its_reason(tmp_path: Path, lines: str, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, lines)
    assert str(caught.value.problems[0]).startswith(f"channels.toml: channel[a].{why}")


def test_a_carrier_that_no_number_segment_has_is_found_by_the_check(tmp_path: Path) -> None:
    text = CHANNELS.replace('id = "a"\n', 'id = "a"\ncarrier = "china-moblie"\n', 1)
    report = check(write_config(tmp_path, channels=text), ENV)
    assert [str(problem) for problem in report.problems] == [
        "channels.toml: channel[a].carrier: no number segment belongs to it"
    ]


def test_what_is_watched_of_receipts(tmp_path: Path) -> None:
    lines = '[receipts]\nsignals_window_s = 600\nprobe_numbers = ["+8617000000", "+447000001"]\n'
    assert read(tmp_path, gateway=lines).receipts == ReceiptsSettings(600, ("8617000000", "447000001"))
    assert read(tmp_path).receipts == ReceiptsSettings()
    names = ["CM_A", "CM_B", "CU_A", "CU_B", "CT_A", "CT_B", "INTL_A"]
    shipped = load(packaged_config_dir(), {f"{name}_PASSWORD": "x" for name in names})
    assert shipped.receipts == ReceiptsSettings()


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ("signals_window_s = 299", "receipts.signals_window_s: "),
        ('probe_numbers = ["13800138000"]', 'receipts.probe_numbers[1]: "+" and 6 to 15 digits are wanted'),
        ('probe_numbers = ["+8613"]', 'receipts.probe_numbers[1]: "+" and 6 to 15 digits are wanted'),
    ],
)
def test_what_cannot_be_watched_is_refused(tmp_path: Path, lines: str, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, gateway=f"[receipts]\n{lines}\n")
    assert str(caught.value.problems[0]).startswith(f"gateway.toml: {why}")
