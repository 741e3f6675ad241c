"""Ids of the English and Mandarin symbols in the v2 inventory (src/text/phonemes.h holds the whole of it)."""
import json
import os

IDS = {}
for _name in ("symbols_zh.json", "symbols_en.json"):
    with open(os.path.join(os.path.dirname(__file__), _name), encoding="utf8") as _f:
        IDS.update(json.load(_f))
SAME = {";": ",", ":": ",", "—": ","}          # marks the front end folds into others


def ids_of(symbols):
    return [IDS[SAME.get(s, s)] for s in symbols]
