import { expect, test } from "vitest";
import { type EventEnvelope, eventKinds } from "../contract/index.ts";
import { addressOf, placeOf } from "./page.ts";
import { bytes, duration, sentence } from "./text.ts";
import { visible } from "./visible.ts";

const event = (kind: string, data: Record<string, unknown>, source: "host" | "guest" = "host"): EventEnvelope => ({
  version: 1,
  id: 1,
  time: "2026-11-21T10:00:00.000Z",
  kind,
  source,
  actor: { kind: "keeper" },
  data,
  chain: "0".repeat(64),
});

test("what would move, hide or reorder text is spelled out; ordinary text of any language stays", () => {
  expect(visible("invoice\u202Efdp.exe")).toBe("invoice‹U+202E›fdp.exe");
  expect(visible("a\u0000b\u001b[31mc\u200bd\u2066e\u{E0041}")).toBe("a‹U+0000›b‹U+001B›[31mc‹U+200B›d‹U+2066›e‹U+E0041›");
  expect(visible("const {x,\u3164} = q;\u2028e\u{E0101}\uFFA0")).toBe("const {x,‹U+3164›} = q;‹U+2028›e‹U+E0101›‹U+FFA0›");
  expect(visible("Rechnungen März – 請求書 – فواتير – 🧾")).toBe("Rechnungen März – 請求書 – فواتير – 🧾");
});

test("each kind of event has a sentence; one that does not fit or is not known is shown by its kind", () => {
  for (const kind of eventKinds) expect(sentence(event(kind, { not: "its data" }))).not.toBe("");
  expect(sentence(event("vault.opened", {}))).toBe("vault.opened");
  expect(sentence(event("constructor", {}))).toBe("constructor");
});

test("what the guest says is quoted, with its tricks visible", () => {
  const log = event("guest.log", { level: "info", message: "the task is\u202Edone" }, "guest");
  expect(sentence(log)).toBe("“info: the task is‹U+202E›done”");
});

test("a path in an event cannot reorder the sentence around it", () => {
  const path = { bytes: "eA==", text: "a\u202Eb" };
  const entries = [{ what: "created", path, count: 1 }];
  expect(sentence(event("files.activity", { folder: "0123abcd", name: "Receipts", entries }))).toBe("In Receipts: made a‹U+202E›b");
});

test("sizes read as file managers show them", () => {
  expect([0, 812, 3_400, 999_600, 12_000_000].map(bytes)).toEqual(["0 B", "812 B", "3.4 kB", "1.0 MB", "12 MB"]);
});

test("durations read as people say them", () => {
  expect([820, 4_200, 75_000, 185_000].map(duration)).toEqual(["820 ms", "4.2 s", "75 s", "3 min 5 s"]);
});

test("a place survives its address; any other address is the list", () => {
  for (const place of [
    { at: "list" },
    { at: "new" },
    { at: "task", id: "0123456789abcdef", tab: "work" },
    { at: "task", id: "0123456789abcdef", tab: "changes" },
    { at: "task", id: "0123456789abcdef", tab: "network" },
    { at: "task", id: "0123456789abcdef", tab: "keys" },
  ] as const)
    expect(placeOf(addressOf(place))).toEqual(place);
  for (const odd of ["", "#token=x", "#/task/../x", "#/task/0123456789ABCDEF", "#/task/<img>"])
    expect(placeOf(odd)).toEqual({ at: "list" });
});
