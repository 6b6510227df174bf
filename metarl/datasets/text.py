"""Turn texts into feature ids, and load data sets of texts: CLINC150's intents and the user's own CSV files.

A text becomes hashes of its words and of their character n-grams, so that words unseen in training still share parts with
known words (Bojanowski et al. 2017). The hash is CRC-32, which is the same in every process, unlike Python's hash.
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from zlib import crc32

import numpy as np
from torch import Tensor

from metarl.datasets.download import File, checked, obtain
from metarl.datasets.episodes import PARTS, Part, Pool, Resident
from metarl.datasets.features import BUCKETS
from metarl.datasets.splits import split_by_share
from metarl.errors import UserError
from metarl.system.console import say
from metarl.system.counts import plural

LENGTH = 128
"""Feature ids per text; longer texts are cut, with words before their n-grams."""

Embed = Callable[[Sequence[str]], np.ndarray]
"""Converts texts to a learner's input: `feature_ids`, or vectors of a sentence encoder."""

DOMAINS: dict[str, str] = {
    "banking": "freeze_account routing pin_change bill_due pay_bill account_blocked interest_rate min_payment bill_balance "
    "transfer order_checks balance spending_history transactions report_fraud",
    "credit_cards": "replacement_card_duration expiration_date damaged_card improve_credit_score report_lost_card "
    "card_declined credit_limit_change apr redeem_rewards credit_limit rewards_balance application_status credit_score "
    "new_card international_fees",
    "kitchen_and_dining": "food_last confirm_reservation how_busy ingredients_list calories nutrition_info recipe "
    "restaurant_reviews restaurant_reservation meal_suggestion restaurant_suggestion cancel_reservation "
    "ingredient_substitution cook_time accept_reservations",
    "home": "what_song play_music todo_list_update reminder reminder_update calendar_update order_status update_playlist "
    "shopping_list calendar next_song order todo_list shopping_list_update smart_home",
    "auto_and_commute": "current_location oil_change_when oil_change_how uber traffic tire_pressure schedule_maintenance "
    "gas mpg distance directions last_maintenance gas_type tire_change jump_start",
    "travel": "plug_type travel_notification translate flight_status international_visa timezone exchange_rate "
    "travel_suggestion travel_alert vaccines lost_luggage book_flight book_hotel carry_on car_rental",
    "utility": "weather alarm date find_phone share_location timer make_call calculator definition measurement_conversion "
    "flip_coin spelling time roll_dice text",
    "work": "pto_request_status next_holiday insurance_change insurance meeting_schedule payday taxes income rollover_401k "
    "pto_balance pto_request w2 schedule_meeting direct_deposit pto_used",
    "small_talk": "who_made_you meaning_of_life who_do_you_work_for do_you_have_pets what_are_your_hobbies fun_fact "
    "what_is_your_name where_are_you_from goodbye thank_you greeting tell_joke are_you_a_bot how_old_are_you "
    "what_can_i_ask_you",
    "meta": "change_speed user_name whisper_mode yes change_volume no change_language repeat change_accent cancel "
    "sync_device change_user_name change_ai_name reset_settings maybe",
}
"""CLINC150's ten domains of fifteen intents each (Larson et al. 2019; domains.json of its repository)."""

HELD_OUT: dict[Part, tuple[str, ...]] = {"validation": ("utility", "meta"), "test": ("travel", "work")}
"""Domains excluded from training. Banking and credit cards overlap in content, so they are in the same part."""

CLINC150 = File(
    "clinc150/data_full.json",
    "https://raw.githubusercontent.com/clinc/oos-eval/master/data/data_full.json",
    partial(checked, sha256="36923c3705a59e08fe9c3883d8bc2dd966ef93e22cb78ac41171782a698d56e0"),
)


@dataclass(frozen=True)
class Texts(Resident):
    """A data set of texts: see `Resident`."""

    text_of: dict[bytes, str] = field(default_factory=dict, repr=False)
    """Maps the bytes of feature ids or vectors to one text that has them."""

    def texts(self, x: Tensor) -> list[str]:
        """Return the original texts for the x (texts, LENGTH or vector size) of examples drawn from this data set."""
        return [self.text_of[row.tobytes()] for row in x.cpu().numpy().astype(self.parts["train"].values.dtype)]


def features(text: str) -> np.ndarray:
    """Return the feature ids of a text, (LENGTH,) int16: its words, then their 3- to 5-grams, without repeats, then zeros."""
    words, grams = pieces(text)
    ids = [*words, *grams]
    padded = np.zeros(LENGTH, np.int16)
    padded[: len(ids)] = ids[:LENGTH]
    return padded


def pieces(text: str) -> tuple[list[int], list[int]]:
    """Return the ids of a text's words, and those of their n-grams that are not among them; without repeats."""
    words = [f"<{word}>" for word in re.findall(r"\w+|[^\w\s]", text.casefold())]
    ids = dict.fromkeys(_id(word) for word in words)
    return list(ids), list(dict.fromkeys(i for word in words for i in _grams(word) if i not in ids))


def feature_ids(texts: Sequence[str]) -> np.ndarray:
    """Compute `features` of each text, (texts, LENGTH)."""
    return np.stack([features(text) for text in texts])


def _id(piece: str) -> int:
    return crc32(piece.encode("utf-8", "surrogatepass")) % (BUCKETS - 1) + 1


@lru_cache(1 << 16)
def _grams(word: str) -> list[int]:
    return [_id(word[i : i + n]) for n in (3, 4, 5) for i in range(len(word) - n + 1)]


def clinc150(embed: Embed = feature_ids) -> Texts:
    """Load CLINC150: 150 intents with 150 texts each from the three sections of its file, without out-of-scope texts.

    Twelve texts whose words repeat those of another text of the same intent, in the same order, are dropped.

    Raises:
        UserError: the file is missing and cannot be downloaded.
    """
    rows = [(text, label) for section in json.loads(obtain(CLINC150)).values() for text, label in section if label != "oos"]
    part_of = {domain: part for part, domains in HELD_OUT.items() for domain in domains}
    parts = {intent: part_of.get(domain, "train") for domain, intents in DOMAINS.items() for intent in intents.split()}
    validation, test = (" and ".join(HELD_OUT[part]) for part in ("validation", "test"))
    split = f"by domain: 90 intents of 6 domains for training, 30 of {validation} for validation, 30 of {test} for test"
    return _data("clinc150", rows, parts, split, "intent", embed)


def csv_texts(path: Path, seed: int, embed: Embed = feature_ids) -> Texts:
    """Load the user's own texts from a CSV file with the columns text and label.

    Raises:
        UserError: see `read_csv`; or there are too few labels to split.
    """
    rows = [(text, label) for text, label in read_csv(path, ("text", "label"))]
    name = f"csv:{path}"
    parts, split = split_by_share(sorted({label for _, label in rows}), seed, name)
    data = _data(name, rows, parts, split, "label", embed)
    repeated = len(rows) - sum(len(pool.values) for pool in data.parts.values())
    if repeated:
        say(f"{name}: {repeated:,} of {plural(len(rows), 'text')} repeat another of the same label and are left out")
    labels: dict[str, set[str]] = {}
    for text, label in rows:
        labels.setdefault(text, set()).add(label)
    ambiguous = [text for text, text_labels in labels.items() if len(text_labels) > 1]
    if ambiguous:
        say(f"{name}: {plural(len(ambiguous), 'text')} with more than one label, such as {ambiguous[0]!r}")
    if embed is feature_ids:
        report_truncated(name, list(labels))
    return data


def report_truncated(name: str, texts: Sequence[str]) -> None:
    """Report how many texts have more features than `LENGTH`, and how many have more words, the rest of which are ignored."""
    counts = [[len(ids) for ids in pieces(text)] for text in texts]
    truncated = sum(words + grams > LENGTH for words, grams in counts)
    too_long = sum(words > LENGTH for words, _ in counts)
    if truncated:
        say(
            f"{name}: {truncated:,} of {plural(len(texts), 'text')} have more than {LENGTH} words and parts of "
            "words: the words come first, then as many parts as fit"
            + (f"; words beyond {LENGTH} are left out, of {plural(too_long, 'text')}" if too_long else "")
        )


def _data(name: str, rows: list[tuple[str, str]], parts: dict[str, Part], split: str, group: str, embed: Embed) -> Texts:
    ids = {text: features(text) for text, _ in rows}
    values = ids if embed is feature_ids else dict(zip(ids, embed(list(ids))))
    # a text repeated within a class could be in both support and query
    unique = {(ids[text].tobytes(), label): text for text, label in reversed(rows)}
    classes: dict[str, list[np.ndarray]] = {label: [] for label in parts}
    for (_, label), text in reversed(unique.items()):
        classes[label].append(values[text])
    empty = np.zeros_like(values[rows[0][0]])[None]
    pools = {
        part: Pool.of({label: np.stack(classes[label]) for label in parts if parts[label] == part}, empty) for part in PARTS
    }
    kind, text_of = "text" if values is ids else "vector", {value.tobytes(): text for text, value in values.items()}
    return Texts(name, kind, split, pools, "texts", group, text_of)


def read_csv(path: Path, columns: Sequence[str]) -> list[tuple[str, ...]]:
    """Read the values of some columns of a UTF-8 CSV file, row by row, without surrounding spaces.

    Raises:
        UserError: the file cannot be read, a column is missing or repeated, a row has the wrong length, or a value is
            empty; with the line number.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(f"{path}, line {line}: byte {content[error.start]:#04x} is not UTF-8; save the file as UTF-8") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        indices = _column_indices(path, header, columns)
        rows = []
        for row in reader:
            if row:
                rows.append(_row(f"{path}, line {reader.line_num}", row, header, indices))
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: {error}") from None
    if not rows:
        raise UserError(f"{path} has no rows below its header")
    return rows


def _column_indices(path: Path, header: list[str], columns: Iterable[str]) -> list[int]:
    repeated = [name for name, count in Counter(header).items() if count > 1]
    if repeated:
        raise UserError(f"{path}, line 1: the column {repeated[0]!r} occurs twice")
    missing = [name for name in columns if name not in header]
    if missing:
        columns_found = ", ".join(repr(name) for name in header) or "nothing"
        raise UserError(f"{path}, line 1: no column {' and no column '.join(missing)}; the header has {columns_found}")
    return [header.index(name) for name in columns]


def _row(location: str, row: list[str], header: list[str], indices: list[int]) -> tuple[str, ...]:
    if len(row) != len(header):
        raise UserError(
            f"{location}: {plural(len(row), 'value')} for {plural(len(header), 'column')} "
            f"(a text with a comma needs quotes around it)"
        )
    values = tuple(row[index].strip() for index in indices)
    if "" in values:
        raise UserError(f"{location}: empty {header[indices[values.index('')]]}")
    return values
