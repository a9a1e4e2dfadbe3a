/** One task: its button, its wall, its start, its terminal, its activity. */
import type { TaskState, TaskView } from "../../contract/index.ts";
import { ChangesPane } from "../changes/ChangesPane.tsx";
import { KeysPane } from "../network/KeysPane.tsx";
import { NetworkPane } from "../network/NetworkPane.tsx";
import { addressOf, type TaskTab, taskTabs, useActions, usePageState } from "../page.ts";
import { Activity } from "../parts/Activity.tsx";
import { ProblemNote } from "../parts/ProblemNote.tsx";
import { StepList, Steps } from "../parts/Steps.tsx";
import { Folders, Resources, StateBadge, Wall, waitingIn } from "../parts/TaskFacts.tsx";
import { TerminalPane } from "../terminal/TerminalPane.tsx";
import { duration, text } from "../text.ts";

export function TaskPage({ id, tab }: Readonly<{ id: string; tab: TaskTab }>) {
  const tasks = usePageState((state) => state.tasks);
  const task = tasks?.find((candidate) => candidate.id === id);
  const problem = usePageState((state) => state.problems[id]);
  const events = usePageState((state) => state.events[id]);
  const { dismiss } = useActions();
  if (tasks === undefined) return <p role="status">{text.connection.connecting}</p>;
  const back = (
    <a className="back" href={addressOf({ at: "list" })}>
      {text.allTasks}
    </a>
  );
  if (task === undefined)
    return (
      <>
        {back}
        <p role="status">{text.missingTask}</p>
      </>
    );
  const failed = task.state.at === "failed" ? task.state.problem : undefined;
  return (
    <>
      {back}
      <header className="title">
        <h1>{task.name}</h1>
        <span role="status">
          <StateBadge state={task.state} />
        </span>
        <TaskButton task={task} />
      </header>
      {task.state.at === "stopping" && <p className="hint">{text.stoppingHint}</p>}
      {failed && <ProblemNote problem={failed} />}
      {problem && problem.message !== failed?.message && <ProblemNote problem={problem} onDismiss={() => dismiss(id)} />}
      <div className="task">
        <div className="work">
          <Tabs task={task} tab={tab} />
          {/* the terminal stays while the changes are looked at: leaving it would end its shell */}
          <div className="part" hidden={tab !== "work"}>
            <Work task={task} />
          </div>
          {tab === "network" && (
            <div className="part">
              <NetworkPane task={task} />
            </div>
          )}
          {tab === "keys" && (
            <div className="part">
              <KeysPane task={task} />
            </div>
          )}
          {tab === "changes" && (
            <div className="part">
              <ChangesPane task={task} />
            </div>
          )}
        </div>
        <aside>
          <section>
            <h2>{text.wall}</h2>
            <Wall sentence={task.wall} />
          </section>
          <section>
            <h2>{text.folders}</h2>
            <Folders shares={task.shares} />
          </section>
          <section>
            <h2>{text.resources}</h2>
            <Resources task={task} />
          </section>
          <Activity events={events} />
        </aside>
      </div>
    </>
  );
}

function Tabs({ task, tab }: Readonly<{ task: TaskView; tab: TaskTab }>) {
  const waiting = waitingIn(task.shares);
  const held = usePageState((state) => state.asks)?.filter((ask) => ask.task === task.name && ask.state === "pending").length ?? 0;
  return (
    <nav className="tabs" aria-label={text.tab.label}>
      {taskTabs.map((each) => (
        <a
          key={each}
          className="tab"
          href={addressOf({ at: "task", id: task.id, tab: each })}
          aria-current={each === tab ? "page" : undefined}
        >
          {text.tab[each]}
          {each === "changes" && waiting > 0 && (
            <span className="count" role="img" aria-label={text.changes.waiting(waiting)}>
              {waiting}
            </span>
          )}
          {each === "network" && held > 0 && (
            <span className="count" role="img" aria-label={text.network.waiting(held)}>
              {held}
            </span>
          )}
        </a>
      ))}
    </nav>
  );
}

/** One button. It is never disabled: while the task stops, a second click forces. */
function TaskButton({ task }: Readonly<{ task: TaskView }>) {
  const { start, stop } = useActions();
  switch (task.state.at) {
    case "stopped":
    case "failed":
      return (
        <button type="button" className="primary" onClick={() => start(task.id)}>
          {text.start}
        </button>
      );
    case "starting":
    case "running":
    case "paused":
      return (
        <button type="button" onClick={() => stop(task.id, false)}>
          {text.stop}
        </button>
      );
    case "stopping":
      return (
        <button type="button" onClick={() => stop(task.id, true)}>
          {text.stopNow}
        </button>
      );
  }
}

function Work({ task }: Readonly<{ task: TaskView }>) {
  const startedAt = usePageState((state) => state.startedAt[task.id]);
  const state: TaskState = task.state;
  switch (state.at) {
    case "starting":
      return <Steps steps={state.steps} startedAt={startedAt} />;
    case "running":
      return (
        <>
          <TerminalPane task={task} />
          <details className="steps">
            <summary>{text.steps.done(duration(state.startMs))}</summary>
            <StepList steps={state.steps} />
          </details>
        </>
      );
    case "stopped":
    case "paused":
    case "stopping":
    case "failed":
      return <p className="idle">{text.terminal.idle}</p>;
  }
}
