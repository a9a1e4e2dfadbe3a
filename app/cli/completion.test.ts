import { execFileSync } from "node:child_process";
import { expect, it } from "vitest";
import { completionScript } from "./help.ts";

/** What bash offers for the last of some words, the tasks being `alpha` and `beta`. */
const offered = (...words: string[]) =>
  execFileSync(
    "bash",
    [
      "-c",
      `eval "$1"; shift; cloche() { printf "alpha\\nbeta\\n"; }; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _cloche; printf "%s\\n" "\${COMPREPLY[@]}"`,
      "bash",
      completionScript("bash") ?? "",
      "cloche",
      ...words,
    ],
    { encoding: "utf8" },
  )
    .trim()
    .split("\n");

it("bash completes verbs, the names of tasks, and what follows a verb", () => {
  expect(offered("st")).toEqual(["start", "stop"]);
  expect(offered("exec", "")).toEqual(["alpha", "beta"]);
  expect(offered("stop", "b")).toEqual(["beta"]);
  expect(offered("folder", "s")).toEqual(["set"]);
  expect(offered("folder", "set", "al")).toEqual(["alpha"]);
});

it("no script is made up for a shell that is not known", () => {
  expect(completionScript("csh")).toBeUndefined();
});
