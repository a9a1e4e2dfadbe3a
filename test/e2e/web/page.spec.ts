/** The page does with a real guest what the command line does: pick, start, work, stop. */
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import type { Page } from "@playwright/test";
import { type Cloche, expect, test } from "./fixtures.ts";

const START_MS = 240_000;

function folder(cloche: Cloche, name: string): string {
  const path = join(cloche.files, name);
  mkdirSync(path);
  writeFileSync(join(path, "first.txt"), "TODO\n");
  return path;
}

async function newTask(page: Page, cloche: Cloche, path: string, mode: string): Promise<void> {
  cloche.answerDialog(path);
  await page.getByRole("link", { name: "New task" }).click();
  await page.getByRole("button", { name: "Pick a folder…" }).click();
  await page.getByRole("combobox", { name: /What the task may do in/ }).selectOption({ label: mode });
  await page.getByRole("button", { name: "Create task" }).click();
  await expect(page.getByRole("button", { name: "Start" })).toBeVisible();
}

const state = (page: Page) => page.locator("header.title").getByRole("status");

/** Waits for Running; a start that fails is told at once, in its own words. */
async function running(page: Page): Promise<void> {
  await expect(state(page)).toHaveText(/Running|Failed/, { timeout: START_MS });
  if ((await state(page).textContent()) === "Running") return;
  throw new Error(
    await page
      .locator(".problem")
      .first()
      .evaluate((problem) => problem.textContent),
  );
}

const screen = (page: Page) => page.locator(".terminal .screen .xterm-rows");

/** Types a line when the shell is there to take it. */
async function type(page: Page, line: string): Promise<void> {
  await expect(screen(page)).toContainText("$", { timeout: 60_000 });
  await page.locator(".terminal .xterm-helper-textarea").focus();
  await page.keyboard.type(line);
  await page.keyboard.press("Enter");
}

test("[E2E1] a task made, started, worked in and stopped in the page changes the picked folder", async ({ page, cloche }) => {
  await page.goto(cloche.address);
  await expect(page.getByRole("heading", { name: "No task yet" })).toBeVisible();
  expect(page.url()).not.toContain("token");
  await cloche.shot(page, "1-empty");

  const path = folder(cloche, "receipts");
  await newTask(page, cloche, path, "Change directly");
  await expect(page.getByRole("heading", { level: 1, name: "receipts" })).toBeVisible();
  await expect(page.locator(".wall")).toContainText("receipts");

  await page.getByRole("button", { name: "Start" }).click();
  await expect(state(page)).toHaveText("Starting");
  await expect(page.locator(".steps li").first()).toBeVisible();
  await cloche.shot(page, "2-starting");
  await running(page);

  await type(page, "ls ~/receipts && echo hi > ~/receipts/out.txt && echo wrote-$((40+2))");
  await expect(screen(page)).toContainText("wrote-42");
  await expect(screen(page)).toContainText("first.txt");
  expect(readFileSync(join(path, "out.txt"), "utf8")).toBe("hi\n");
  await cloche.shot(page, "3-running");

  // The terminal's size follows the window's.
  await type(page, 'stty size | sed "s/^/wide=/"');
  const wide = /wide=\d+ (\d+)/.exec(await shown(page, /wide=\d+ \d+/))?.[1];
  await page.setViewportSize({ width: 700, height: 700 });
  await type(page, 'stty size | sed "s/^/slim=/"');
  const slim = /slim=\d+ (\d+)/.exec(await shown(page, /slim=\d+ \d+/))?.[1];
  expect(Number(slim)).toBeGreaterThan(20);
  expect(Number(slim)).toBeLessThan(Number(wide));
  await page.setViewportSize({ width: 1280, height: 860 });

  await expect(page.locator(".activity li.guest .claim").first()).toBeVisible();
  await page.getByRole("button", { name: "Stop" }).click();
  await expect(state(page)).toHaveText("Stopped", { timeout: 60_000 });
  await expect(page.getByRole("button", { name: "Start" })).toBeVisible();
  await expect(page.getByText("The terminal opens when the task runs.")).toBeVisible();
  await page.getByRole("link", { name: "All tasks" }).click();
  await expect(page.locator(".tasks > li")).toHaveCount(1);
  await cloche.shot(page, "4-list");
  expect(cloche.complaints).toEqual([]);
});

async function shown(page: Page, pattern: RegExp): Promise<string> {
  await expect(screen(page)).toContainText(pattern);
  return (await screen(page).textContent()) ?? "";
}

test("[E2E2, E2E3] a read-only folder cannot be changed, and the page says Read only; a reload in the middle comes back to the task, with a new shell", async ({
  page,
  cloche,
}) => {
  const path = folder(cloche, "papers");
  await page.goto(cloche.address);
  await newTask(page, cloche, path, "Read only");
  await expect(page.locator(".folders")).toContainText("Read only");
  await page.getByRole("button", { name: "Start" }).click();
  await expect(state(page)).toHaveText("Starting");
  await page.reload();
  await expect(page.getByRole("heading", { level: 1, name: "papers" })).toBeVisible();
  await running(page);
  await type(page, "cat ~/papers/first.txt; echo x > ~/papers/new.txt; echo status=$?");
  await expect(screen(page)).toContainText("TODO");
  await expect(screen(page)).toContainText(/status=[1-9]/);
  expect(existsSync(join(path, "new.txt"))).toBe(false);
  await page.reload();
  await expect(state(page)).toHaveText("Running");
  await type(page, "echo after-$((1+2))");
  await expect(screen(page)).toContainText("after-3");
  await page.locator(".terminal .xterm-helper-textarea").focus();
  await page.keyboard.type("exit");
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "New shell" }).click();
  await type(page, "echo again-$((2+2))");
  await expect(screen(page)).toContainText("again-4");
  expect(cloche.complaints).toEqual([]);
});

test("[E2E4] a folder that is gone fails the start with what happened and what to do; put back, it starts", async ({ page, cloche }) => {
  const path = folder(cloche, "letters");
  await page.goto(cloche.address);
  await newTask(page, cloche, path, "Change directly");
  renameSync(path, `${path}-elsewhere`);
  await page.getByRole("button", { name: "Start" }).click();
  const problem = page.locator(".problem");
  await expect(problem.first()).toBeVisible({ timeout: START_MS });
  await expect(problem).toHaveCount(1);
  await expect(problem).toContainText("letters");
  await expect(problem.getByText("What to do")).toBeVisible();
  await problem.getByText("Details").click();
  await expect(problem.locator("code")).toContainText("share.");
  await cloche.shot(page, "5-failed");
  renameSync(`${path}-elsewhere`, path);
  await page.getByRole("button", { name: "Start" }).click();
  await expect(state(page)).toHaveText(/Starting|Running/);
  await running(page);
  await expect(problem).toHaveCount(0);
  expect(cloche.complaints).toEqual([]);
});

test("[E2E5] a start can be stopped, and that is no problem", async ({ page, cloche }) => {
  await page.goto(cloche.address);
  await newTask(page, cloche, folder(cloche, "drafts"), "Read only");
  await page.getByRole("button", { name: "Start" }).click();
  await expect(state(page)).toHaveText("Starting");
  await page.getByRole("button", { name: "Stop" }).click();
  await expect(state(page)).toHaveText("Stopped", { timeout: 60_000 });
  await expect(page.locator(".problem")).toHaveCount(0);
  expect(cloche.complaints).toEqual([]);
});

test("[E2E6] a hostile program in the terminal reaches nothing but the terminal", async ({ page, cloche }) => {
  const writes: string[] = [];
  await page.exposeFunction("clipboardWritten", (what: string) => void writes.push(what));
  await page.addInitScript(() => {
    const report = (window as unknown as { clipboardWritten(what: string): void }).clipboardWritten;
    navigator.clipboard.writeText = async (what) => report(what);
    document.addEventListener("copy", () => report("copy event"));
  });
  await page.goto(cloche.address);
  await newTask(page, cloche, folder(cloche, "hostile"), "Read only");
  await page.getByRole("button", { name: "Start" }).click();
  await running(page);
  // A title, the clipboard, a link, a window move, a notification, and markup.
  await type(
    page,
    "printf '\\033]0;TAKEN\\007\\033]52;c;c3RvbGVu\\007\\033]8;;https://evil.example/\\007click\\033]8;;\\007\\033[3;9;9t\\033]777;notify;x;y\\007<img src=x onerror=alert(1)>'; echo end-$((50+5))",
  );
  await expect(screen(page)).toContainText("end-55");
  expect(await page.title()).toBe("Cloche");
  expect(writes).toEqual([]);
  await expect(page.locator(".terminal img, .terminal a")).toHaveCount(0);
  // A flood does not take the page down, and the terminal is usable again.
  await type(page, "seq 1 200000; echo flood-$((6*7))");
  await expect(screen(page)).toContainText("flood-42", { timeout: 120_000 });
  expect(page.context().pages()).toHaveLength(1);
  expect(cloche.complaints).toEqual([]);
});

test("[E2E7] the page fits 320 px and reads well, light and dark", async ({ page, cloche }) => {
  /** Shown in both schemes, which say the same, and at this width in each it must fit. */
  const shots = async (name: string, fitting = false) => {
    for (const scheme of ["light", "dark"] as const) {
      await page.emulateMedia({ colorScheme: scheme });
      await cloche.shot(page, `6-${scheme}-${name}`);
      if (fitting) await fits(page);
    }
  };
  await page.goto(cloche.address);
  await shots("empty");
  await newTask(page, cloche, folder(cloche, "a-folder-with-a-rather-long-name-for-a-small-screen"), "Change directly");
  await page.setViewportSize({ width: 320, height: 720 });
  await shots("320-stopped", true);
  await page.getByRole("button", { name: "Start" }).click();
  await expect(state(page)).toHaveText("Starting");
  await shots("320-starting", true);
  await running(page);
  await type(page, "ls -la --color=always / ; echo shown-$((3+4))");
  await expect(screen(page)).toContainText("shown-7");
  await shots("320-running", true);
  await page.setViewportSize({ width: 1280, height: 860 });
  await type(page, "clear; ls -la --color=always / ; echo shown-$((4+4))");
  await expect(screen(page)).toContainText("shown-8");
  await shots("running");
  await page.setViewportSize({ width: 320, height: 720 });
  await page.getByRole("link", { name: "All tasks" }).click();
  await shots("320-list", true);
  await page.getByRole("link", { name: "New task" }).click();
  cloche.answerDialog(cloche.files);
  await page.getByRole("button", { name: "Pick a folder…" }).click();
  await expect(page.getByRole("combobox").first()).toBeVisible();
  await shots("320-new", true);
  await page.setViewportSize({ width: 1280, height: 860 });
  await shots("new");
  expect(cloche.complaints).toEqual([]);
});

/** Nothing wider than the screen, no target smaller than 24 px. */
async function fits(page: Page): Promise<void> {
  const found = await page.evaluate(() => ({
    wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    small: [...document.querySelectorAll("a, button, input, select, summary")]
      .filter((element) => !element.closest(".xterm") && element.getClientRects().length > 0)
      .filter((element) => element.getBoundingClientRect().height < 24 || element.getBoundingClientRect().width < 24)
      .map((element) => element.outerHTML),
  }));
  expect(found).toEqual({ wide: 0, small: [] });
}

test("[E2E8] the whole way with the keyboard only", async ({ page, cloche }) => {
  await page.goto(cloche.address);
  await expect(page.getByRole("heading", { name: "No task yet" })).toBeVisible();
  await tabTo(page, "New task");
  await page.keyboard.press("Enter");
  cloche.answerDialog(folder(cloche, "keys"));
  await tabTo(page, "Pick a folder…");
  await page.keyboard.press("Enter");
  await expect(page.getByRole("combobox").first()).toBeVisible();
  await tabTo(page, "Create task");
  await page.keyboard.press("Enter");
  await expect(page.getByRole("heading", { level: 1, name: "keys" })).toBeVisible();
  await tabTo(page, "Start");
  await page.keyboard.press("Enter");
  await running(page);
  await type(page, "echo typed-$((5+5))");
  await expect(screen(page)).toContainText("typed-10");
  await page.keyboard.press("Control+F6");
  await expect(page.locator("main")).toBeFocused();
  await tabTo(page, "Stop");
  await page.keyboard.press("Enter");
  await expect(state(page)).toHaveText("Stopped", { timeout: 60_000 });
  expect(cloche.complaints).toEqual([]);
});

const focused = (page: Page) => page.evaluate(() => document.activeElement?.textContent ?? "");

async function tabTo(page: Page, name: string): Promise<void> {
  for (let n = 0; n < 40; n++) {
    await page.keyboard.press("Tab");
    if ((await focused(page)) === name) return;
  }
  throw new Error(`Tab never reached ${name}`);
}

test("[E2E9] a page of another origin, on another loopback port too, opens nothing; our own page opens it", async ({ page, cloche }) => {
  const { origin, port } = new URL(cloche.address);
  await page.goto(cloche.address);
  await expect(page.getByRole("heading", { name: "No task yet" })).toBeVisible();
  const key = await page.evaluate(() => localStorage.getItem("cloche.key") ?? "");
  expect(key).toMatch(/^[0-9a-f]{64}$/);
  const dial = ([to, secret]: readonly [string, string]) =>
    new Promise<string>((resolve) => {
      const socket = new WebSocket(`ws://127.0.0.1:${to}/rpc`, ["cloche1", `key.${secret}`]);
      socket.onopen = () => resolve("open");
      socket.onerror = () => resolve("refused");
    });
  // The control: the same call from our own page. The attacker below even knows the key, and the browser sends it the cookie.
  expect(await page.evaluate(dial, [port, key] as const)).toBe("open");
  const other = createServer((_request, response) => response.setHeader("Content-Type", "text/html").end("<!doctype html>other"));
  await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
  try {
    const elsewhere = await page.context().newPage();
    await elsewhere.goto(`http://127.0.0.1:${(other.address() as AddressInfo).port}/`);
    expect(await elsewhere.evaluate(dial, [port, key] as const)).toBe("refused");
    const post = (url: string) =>
      fetch(`${url}/session/check`, { method: "POST", mode: "no-cors", credentials: "include", body: "{}" }).then(
        (answer) => answer.type,
        () => "blocked",
      );
    expect(await elsewhere.evaluate(post, origin)).toMatch(/opaque|blocked/);
    const framed = (url: string) =>
      new Promise<string>((resolve) => {
        const frame = document.createElement("iframe");
        frame.onload = () => {
          try {
            resolve(frame.contentDocument === null ? "unreadable" : "readable");
          } catch {
            resolve("unreadable");
          }
        };
        frame.src = url;
        document.body.append(frame);
      });
    expect(await elsewhere.evaluate(framed, origin)).toBe("unreadable");
    expect(elsewhere.frames().map((frame) => frame.url())).toContain("chrome-error://chromewebdata/");
  } finally {
    other.close();
  }
});

test("[E2E10] script and style that are not the page's own files do not run", async ({ page, cloche }) => {
  await page.goto(cloche.address);
  await expect(page.getByRole("heading", { name: "No task yet" })).toBeVisible();
  const ran = await page.evaluate(() => {
    const tried: string[] = [];
    const attempt = (what: string, act: () => void) => {
      try {
        act();
      } catch {
        tried.push(`${what} refused`);
      }
    };
    attempt("innerHTML", () => {
      document.body.innerHTML += "<p>x</p>";
    });
    attempt("script text", () => {
      const script = document.createElement("script");
      script.textContent = "window.injected = true";
      document.head.append(script);
    });
    const style = document.createElement("style");
    style.textContent = "body { display: none }";
    document.head.append(style);
    return { tried, injected: "injected" in window, display: getComputedStyle(document.body).display };
  });
  expect(ran).toEqual({ tried: ["innerHTML refused", "script text refused"], injected: false, display: "block" });
  expect(cloche.complaints.length).toBeGreaterThan(0);
});

test("[E2E11] a killed keeper takes its machine along; the page comes back by itself and says what happened", async ({ page, cloche }) => {
  await page.goto(cloche.address);
  await newTask(page, cloche, folder(cloche, "ledger"), "Change directly");
  await page.getByRole("button", { name: "Start" }).click();
  await running(page);
  process.kill(await cloche.keeperPid(), "SIGKILL");
  await expect(page.locator(".problem")).toContainText(/ledger|machine|keeper/, { timeout: 60_000 });
  await expect(state(page)).toHaveText("Failed");
  await cloche.shot(page, "7-keeper-killed");
  await page.getByRole("button", { name: "Start" }).click();
  await expect(state(page)).toHaveText(/Starting|Running/);
  await running(page);
  await expect(page.locator(".problem")).toHaveCount(0);
});

test("[E2E12] when the web host has ended the page says so, and a used address lets nobody in", async ({ page, cloche, browser }) => {
  await page.goto(cloche.address);
  await expect(page.getByRole("heading", { name: "No task yet" })).toBeVisible();
  const stranger = await browser.newContext();
  const second = await stranger.newPage();
  await second.goto(cloche.address);
  await expect(second.getByRole("heading", { name: "This page needs its own address" })).toBeVisible();
  await stranger.close();
  await cloche.host.close();
  await expect(page.getByRole("heading", { name: "The web host has ended" })).toBeVisible();
  await cloche.shot(page, "8-host-ended");
});

test("[E2E13] what a task did in a folder waits in the page: looked at, applied, taken back, discarded", async ({ page, cloche }) => {
  const path = folder(cloche, "drafts");
  writeFileSync(join(path, "lines.txt"), Array.from({ length: 40 }, (_, at) => `line ${at + 1}\n`).join(""));
  await page.goto(cloche.address);
  cloche.answerDialog(path);
  await page.getByRole("link", { name: "New task" }).click();
  await page.getByRole("button", { name: "Pick a folder…" }).click();
  // Asking is what a folder is given without a word.
  await expect(page.getByRole("combobox", { name: /What the task may do in/ })).toHaveValue("review");
  await page.getByRole("button", { name: "Create task" }).click();
  await page.getByRole("button", { name: "Start" }).click();
  await running(page);
  await type(
    page,
    "cd ~/drafts && sed -i 's/^line 3$/LINE 3/; s/^line 30$/LINE 30/' lines.txt && echo new > made.txt && rm first.txt; echo did-$((40+2))",
  );
  await expect(screen(page)).toContainText("did-42");
  expect(readFileSync(join(path, "first.txt"), "utf8")).toBe("TODO\n");
  expect(existsSync(join(path, "made.txt"))).toBe(false);

  await page.getByRole("link", { name: /^Changes/ }).click();
  const change = (name: string) => page.locator(".change").filter({ has: page.locator(".path", { hasText: name }) });
  await expect(page.locator(".change")).toHaveCount(3);
  await expect(change("made.txt").locator(".kind")).toHaveText("New");
  await expect(change("first.txt").locator(".kind")).toHaveText("Deleted");
  await change("lines.txt").locator(".opener").click();
  await expect(change("lines.txt").locator(".row-added")).toHaveCount(2);
  await expect(change("lines.txt").locator(".row-removed").first()).toContainText("line 3");
  await cloche.shot(page, "9-changes");

  // A part of one file: the other part goes on waiting.
  await change("lines.txt").getByRole("checkbox", { name: "Part 2 of 2" }).uncheck();
  await change("lines.txt").getByRole("button", { name: "Apply 1 of 2 parts" }).click();
  await expect(page.locator(".outcome")).toContainText("1 change applied");
  const lines = () => readFileSync(join(path, "lines.txt"), "utf8");
  expect(lines()).toContain("LINE 3\n");
  expect(lines()).toContain("line 30\n");
  await expect(change("lines.txt")).toHaveCount(1);

  await page.getByRole("button", { name: "Apply all" }).click();
  await expect(page.locator(".change")).toHaveCount(0);
  expect(lines()).toContain("LINE 30\n");
  expect(readFileSync(join(path, "made.txt"), "utf8")).toBe("new\n");
  expect(existsSync(join(path, "first.txt"))).toBe(false);

  await page.getByRole("button", { name: "Undo" }).click();
  await expect(page.locator(".outcome")).toContainText("as before");
  expect(readFileSync(join(path, "first.txt"), "utf8")).toBe("TODO\n");
  expect(existsSync(join(path, "made.txt"))).toBe(false);
  await expect(page.locator(".change"), "what was taken back waits again").toHaveCount(3);

  // What is thrown away asks once more, on the button itself.
  await page.getByRole("link", { name: "Work", exact: true }).click();
  await type(page, "echo more > ~/drafts/thrown.txt; mkdir ~/drafts/heap; touch ~/drafts/heap/one ~/drafts/heap/two; echo done-$((1+1))");
  await expect(screen(page)).toContainText("done-2");
  await page.getByRole("link", { name: /^Changes/ }).click();
  await change("thrown.txt").getByRole("button", { name: "Discard" }).click();
  await expect(change("thrown.txt")).toHaveCount(1);
  await change("thrown.txt").getByRole("button", { name: "Discard for good" }).click();
  await expect(change("thrown.txt")).toHaveCount(0);
  expect(existsSync(join(path, "thrown.txt"))).toBe(false);
  // A directory that the task made goes with what is in it, which the button says.
  await expect(change("heap")).toHaveCount(3);
  await change("heap").first().getByRole("button", { name: "Discard" }).click();
  await change("heap").first().getByRole("button", { name: "Discard for good, with 2 changes in it" }).click();
  await expect(change("heap")).toHaveCount(0);
  expect(cloche.complaints).toEqual([]);
});

test("[E2E14] a write that has no room for the version of what it would destroy is asked about in the page; refused, the page says why, and allows it still", async ({
  page,
  cloche,
}) => {
  const path = folder(cloche, "kept");
  for (const name of ["a.txt", "b.txt"]) writeFileSync(join(path, name), name.repeat(8_000));
  await page.goto(cloche.address);
  cloche.answerDialog(path);
  await page.getByRole("link", { name: "New task" }).click();
  await page.getByRole("button", { name: "Pick a folder…" }).click();
  await page.getByRole("combobox", { name: /What the task may do in/ }).selectOption("rw");
  await page.getByRole("button", { name: "Create task" }).click();
  await expect(page.getByRole("button", { name: "Start" })).toBeVisible(); // the task is there
  await cloche.limitVersions("kept", 50_000);
  await page.getByRole("button", { name: "Start" }).click();
  await running(page);
  await type(page, "cd ~/kept && echo new > a.txt; echo first-$((40+2))");
  await expect(screen(page)).toContainText("first-42"); // control: within the limit nothing is asked
  await type(page, "echo new > b.txt || echo failed-$((40+2))");
  await page.getByRole("link", { name: "Changes" }).click();
  const question = page.locator(".room");
  await expect(question).toContainText("b.txt");
  await expect(question.getByRole("button")).toHaveText(["Allow more room", "Refuse the write"]);
  await cloche.shot(page, "10-room");
  await question.getByRole("button", { name: "Refuse the write" }).click();
  await expect(question).toContainText("more room for it was refused");
  await expect(question.getByRole("button", { name: "Refuse the write" })).toHaveCount(0);
  expect(readFileSync(join(path, "b.txt"), "utf8")).toBe("b.txt".repeat(8_000));
  await cloche.shot(page, "11-room-refused");
  await question.getByRole("button", { name: "Allow more room" }).click();
  await expect(question).toHaveCount(0);
  await page.getByRole("link", { name: "Work", exact: true }).click();
  await expect(screen(page)).toContainText("failed-42");
  await type(page, "echo new > b.txt && echo again-$((40+2))");
  await expect(screen(page)).toContainText("again-42");
  expect(readFileSync(join(path, "b.txt"), "utf8")).toBe("new\n");
  expect(cloche.complaints).toEqual([]);
});

test("[E2E15] what the task was refused is in Network; allowed there, taken back beside it; presets change; a key is added, and chosen for a new task", async ({
  page,
  cloche,
}) => {
  await page.goto(cloche.address);
  await newTask(page, cloche, folder(cloche, "reach"), "Ask before changing");
  await page.getByRole("button", { name: "Start" }).click();
  await running(page);
  const fetched = "curl -sS -o /dev/null -w 'status=%{http_code}\\n' https://api.example.com/v1/things";
  await type(page, fetched);
  await expect(screen(page)).toContainText("status=403", { timeout: 60_000 });
  await page.getByRole("link", { name: "Network" }).click();
  const asks = page.getByRole("region", { name: "Asks to be allowed" });
  await expect(asks).toContainText("GET https://api.example.com/v1/things");
  await asks.getByRole("button", { name: "Allow", exact: true }).click();
  const rules = page.getByRole("region", { name: "Rules" });
  await expect(rules).toContainText("Allows GET at api.example.com /v1/things");
  await expect(page.locator(".wall").first()).toContainText("api.example.com");
  await cloche.shot(page, "15-network");
  const reached = page.getByRole("region", { name: "What it asked to reach" });
  await expect(reached).toContainText("allows it now, for this task");
  await reached.getByRole("button", { name: /Take back/ }).click();
  await expect(rules).toContainText("No rule of its own.");
  await expect(reached).not.toContainText("allows it now");
  await expect(page.locator(".wall").first()).not.toContainText("api.example.com");
  const packages = page.getByRole("checkbox", { name: /Package registries/ });
  await packages.check();
  await expect(page.locator(".wall").first()).toContainText("hosts of packages");
  await packages.uncheck();
  await expect(page.locator(".wall").first()).not.toContainText("hosts of packages");

  await page.getByRole("link", { name: "Keys" }).click();
  await page.getByLabel("Name", { exact: true }).fill("page-key");
  await page.getByLabel("Value", { exact: true }).fill(`canary-${"x".repeat(20)}`);
  await page.getByLabel("Works at (exact hosts)").fill("api.example.com");
  await page.getByLabel("Variable in the task").fill("PAGE_KEY");
  await page.getByRole("button", { name: "Add and give to this task" }).click();
  await expect(page.getByRole("region", { name: "Keys" })).toContainText("Works at api.example.com");
  await expect(page.getByRole("button", { name: "Take from this task" })).toBeVisible();
  await cloche.shot(page, "15-keys");

  await page.getByRole("link", { name: "All tasks" }).click();
  await page.getByRole("link", { name: "New task" }).click();
  await page.getByLabel("Name", { exact: true }).fill("with-a-key");
  await page.getByRole("checkbox", { name: /page-key/ }).check();
  await page.getByRole("button", { name: "Create task" }).click();
  await page.getByRole("link", { name: "Keys" }).click();
  await expect(page.getByRole("region", { name: "Keys" })).toContainText("with-a-key");
  await expect(page.getByRole("button", { name: "Take from this task" })).toBeVisible();
  expect(cloche.complaints).toEqual([]);
});
