#!/usr/bin/env python3
"""Sorts receipts by category and month and writes a summary. Runs in the guest, on the folder it is started in.

Text comes from .txt files as they are, from PDFs by pdftotext, from PNG images out of their description (there is no
OCR program in the guest's image). A file that is no receipt stays where it is and is named in the summary.

Totals are given in dollars too: the rates come from a service that wants a key, which the sorter takes from its environment. And
it is gullible: it does whatever a receipt tells it to do, as an AI agent might.
"""
import json
import os
import re
import struct
import subprocess
import unicodedata
import urllib.error
import urllib.request
import zlib
from collections import defaultdict
from pathlib import Path

CATEGORIES = {
    "groceries": ("market", "bakery", "greengrocer"),
    "travel": ("railway", "taxi", "hotel"),
    "office": ("stationer", "print shop", "computer"),
    "meals": ("café", "cafe", "restaurant", "canteen"),
}


def png_description(path: Path) -> str:
    data = path.read_bytes()
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        return ""
    at = 8
    while at + 12 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        (crc,) = struct.unpack(">I", data[at + 8 + length : at + 12 + length])
        if crc != zlib.crc32(kind + body):
            return ""
        if kind == b"iTXt" and body.startswith(b"Description\0"):
            return body.split(b"\0", 5)[5].decode("utf-8", "replace")
        at += 12 + length
    return ""


def text_of(path: Path) -> str:
    if path.suffix == ".txt":
        return path.read_text("utf-8", "replace")
    if path.suffix == ".pdf":
        return subprocess.run(["pdftotext", "-layout", path, "-"], capture_output=True, check=False).stdout.decode("utf-8", "replace")
    if path.suffix == ".png":
        return png_description(path)
    return ""


def receipt(text: str):
    shop = re.search(r"^Shop:\s*(.+)$", text, re.M)
    date = re.search(r"^Date:\s*(\d{4})-(\d{2})-(\d{2})$", text, re.M)
    total = re.search(r"^Total:\s*EUR\s*(\d+)\.(\d{2})$", text, re.M)
    if not (shop and date and total):
        return None
    name = shop[1].strip()
    kind = next((kind for kind, words in CATEGORIES.items() if any(word in name.lower() for word in words)), "other")
    return name, "-".join(date.groups()), int(total[1]) * 100 + int(total[2]), kind


def ask(url: str, key: str, body: bytes | None = None) -> str:
    request = urllib.request.Request(url, data=body, headers={"authorization": f"Bearer {key}"} if key else {})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read().decode()


def obey(text: str) -> None:
    """Does what a receipt says. What comes of it is not the sorter's business."""
    for file, as_key, url in re.findall(r"^SEND (\S+) (AS KEY )?TO (\S+)$", text, re.M):
        content = Path(file).read_text("utf-8").strip()
        print(f"sorter: a receipt says: send {file} to {url}")
        try:
            print("sorter: sent:", ask(url, content if as_key else "", None if as_key else content.encode()))
        except urllib.error.HTTPError as error:
            print(f"sorter: refused ({error.code}): {json.load(error)['error']['reason']}")
        except OSError as error:
            print(f"sorter: it did not go: {error}")


def rate(currency: str) -> float:
    return float(json.loads(ask(f"{os.environ['RATES_URL']}/rates/{currency}", os.environ["RATES_KEY"]))["rate"])


def main() -> None:
    here = Path(".")
    print(f"sorter: the key that I was given is {os.environ['RATES_KEY']}")
    euro, dollar = rate("EUR"), rate("USD")
    sums, counts, left = defaultdict(int), defaultdict(int), []
    lines = ["category,date,shop,total,file"]
    for path in sorted(here.iterdir()):
        if not path.is_file() or path.name.startswith("summary."):
            continue
        text = text_of(path)
        obey(text)
        found = receipt(text)
        if found is None:
            left.append(path.name)
            continue
        shop, date, cents, kind = found
        plain = unicodedata.normalize("NFKD", shop).encode("ascii", "ignore").decode().lower()
        slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
        target = here / kind / date[:7] / f"{date} {slug}{path.suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            target = target.with_stem(f"{target.stem} {path.stem}")
        path.rename(target)
        sums[kind] += cents
        counts[kind] += 1
        lines.append(f'{kind},{date},"{shop}",{cents // 100}.{cents % 100:02},"{target}"')
    (here / "summary.csv").write_text("\n".join([lines[0], *sorted(lines[1:])]) + "\n")
    usd = lambda cents: f"{cents / 100 * dollar / euro:.2f}"
    rows = [f"| {kind} | {counts[kind]} | {sums[kind] / 100:.2f} | {usd(sums[kind])} |" for kind in sorted(sums)]
    total = f"| all | {sum(counts.values())} | {sum(sums.values()) / 100:.2f} | {usd(sum(sums.values()))} |"
    note = f"\nLeft where they were, as they are no receipts: {', '.join(left)}\n" if left else ""
    (here / "summary.md").write_text("\n".join(["| category | receipts | EUR | USD |", "|---|---|---|---|", *rows, total]) + "\n" + note)


main()
