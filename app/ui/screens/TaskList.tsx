/** All tasks; the first thing one sees. */

import { addressOf, usePageState } from "../page.ts";
import { FolderChips, StateBadge, Waiting, Wall } from "../parts/TaskFacts.tsx";
import { text } from "../text.ts";

export function TaskList() {
  const tasks = usePageState((state) => state.tasks);
  if (tasks === undefined) return <p role="status">{text.connection.connecting}</p>;
  if (tasks.length === 0) return <Empty />;
  return (
    <>
      <header className="title">
        <h1>{text.tasks}</h1>
        <a className="button primary" href={addressOf({ at: "new" })}>
          {text.newTask}
        </a>
      </header>
      <ul className="tasks">
        {tasks.map((task) => (
          <li key={task.id}>
            <header>
              <h2>
                <a href={addressOf({ at: "task", id: task.id, tab: "work" })}>{task.name}</a>
              </h2>
              <StateBadge state={task.state} />
            </header>
            <FolderChips shares={task.shares} />
            <Waiting task={task} />
            <Wall sentence={task.wall} />
          </li>
        ))}
      </ul>
    </>
  );
}

function Empty() {
  return (
    <section className="empty">
      <img src="/icon.svg" alt="" width="72" height="72" />
      <h1>{text.empty.title}</h1>
      <p>{text.empty.body}</p>
      <a className="button primary" href={addressOf({ at: "new" })}>
        {text.newTask}
      </a>
    </section>
  );
}
