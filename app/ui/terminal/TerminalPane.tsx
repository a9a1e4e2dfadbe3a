/** A shell in the task's guest. Each opening is a new shell; leaving the page ends it. */
import { useCallback, useEffect, useRef, useState } from "react";
import type { TaskView } from "../../contract/index.ts";
import { toProblem } from "../../contract/index.ts";
import { type StreamEnd, TerminalStream } from "../connection/stream.ts";
import { useActions } from "../page.ts";
import { ProblemNote } from "../parts/ProblemNote.tsx";
import { text } from "../text.ts";
import { type OpenTerminal, openTerminal } from "./terminal.ts";

type Shell = { at: "opening" } | { at: "open" } | { at: "ended"; end: StreamEnd };

export function TerminalPane({ task }: Readonly<{ task: TaskView }>) {
  const { openShell } = useActions();
  const parent = useRef<HTMLDivElement>(null);
  const opened = useRef<OpenTerminal>(undefined);
  const [shell, setShell] = useState<Shell>({ at: "opening" });
  /** counts openings; a new number is a new shell */
  const [opening, setOpening] = useState(1);
  const { id } = task;

  useEffect(() => {
    if (!parent.current) return;
    const open = openTerminal(parent.current, () => parent.current?.closest("main")?.focus());
    opened.current = open;
    const { terminal } = open;
    let stream: TerminalStream | undefined;
    let gone = false;
    const encoder = new TextEncoder();
    const size = () => ({ columns: terminal.cols, rows: terminal.rows });
    const end = (why: StreamEnd) => {
      terminal.options.disableStdin = true;
      setShell({ at: "ended", end: why });
    };
    setShell({ at: "opening" });
    openShell(id, size()).then(
      ({ ticket }) => {
        if (gone) return;
        stream = new TerminalStream(ticket, { onOutput: (bytes, taken) => terminal.write(bytes, taken), onEnd: end });
        stream.resize(size());
        setShell({ at: "open" });
        if (opening > 1) terminal.focus();
      },
      (error) => {
        if (!gone) end({ why: "problem", problem: toProblem(error) });
      },
    );
    terminal.onData((data) => stream?.input(encoder.encode(data)));
    terminal.onBinary((data) => stream?.input(Uint8Array.from(data, (character) => character.charCodeAt(0) & 0xff)));
    terminal.onResize(() => stream?.resize(size()));
    return () => {
      gone = true;
      stream?.close();
      open.dispose();
    };
  }, [id, opening, openShell]);

  const again = useCallback(() => setOpening((before) => before + 1), []);
  return (
    <section className="terminal" aria-labelledby="terminal-title">
      <header>
        <h2 id="terminal-title">{text.terminal.title}</h2>
        <ShellState shell={shell} again={again} />
      </header>
      {shell.at === "ended" && shell.end.why === "problem" && <ProblemNote problem={shell.end.problem} />}
      <section className="screen" ref={parent} aria-label={text.terminal.label(task.name)} aria-describedby="terminal-leave" />
      <p id="terminal-leave" className="hint">
        {text.terminal.leave}
      </p>
    </section>
  );
}

function ShellState({ shell, again }: Readonly<{ shell: Shell; again: () => void }>) {
  switch (shell.at) {
    case "opening":
      return <p role="status">{text.terminal.opening}</p>;
    case "open":
      return null;
    case "ended":
      return (
        <>
          <p role="status">{endText(shell.end)}</p>
          <button type="button" onClick={again}>
            {text.terminal.again}
          </button>
        </>
      );
  }
}

function endText(end: StreamEnd): string {
  switch (end.why) {
    case "exit":
      return text.terminal.exited(end.status, end.signal);
    case "lost":
      return text.terminal.lost;
    case "problem":
      return "";
  }
}
