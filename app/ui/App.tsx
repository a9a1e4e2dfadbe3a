/** The frame around the screens, and what is said when there is no connection. */
import { useEffect, useRef } from "react";
import { addressOf, type Place, usePageState, usePlace } from "./page.ts";
import { ProblemNote } from "./parts/ProblemNote.tsx";
import { NewTask } from "./screens/NewTask.tsx";
import { TaskList } from "./screens/TaskList.tsx";
import { TaskPage } from "./screens/TaskPage.tsx";
import type { Connection } from "./store/store.ts";
import { text } from "./text.ts";

export function App() {
  const place = usePlace();
  const connection = usePageState((state) => state.connection);
  const main = useRef<HTMLElement>(null);
  const address = addressOf(place);
  const shown = useRef(address);
  useEffect(() => {
    if (shown.current === address) return;
    shown.current = address;
    main.current?.focus(); // a screen reader starts at the new screen
  }, [address]);
  const blocked = connection.at === "locked" || connection.at === "gone";
  return (
    <>
      <header className="bar">
        <a className="brand" href={addressOf({ at: "list" })}>
          <img src="/icon.svg" alt="" width="24" height="24" /> {text.brand}
        </a>
      </header>
      <ConnectionNote connection={connection} />
      <main ref={main} tabIndex={-1}>
        {!blocked && <Screen place={place} />}
      </main>
    </>
  );
}

function Screen({ place }: Readonly<{ place: Place }>) {
  switch (place.at) {
    case "list":
      return <TaskList />;
    case "new":
      return <NewTask />;
    case "task":
      return <TaskPage key={place.id} id={place.id} tab={place.tab} />;
  }
}

function ConnectionNote({ connection }: Readonly<{ connection: Connection }>) {
  switch (connection.at) {
    case "connecting":
    case "connected":
      return null;
    case "lost":
      return connection.problem ? (
        <div className="frame">
          <ProblemNote problem={connection.problem} />
        </div>
      ) : (
        <p className="notice" role="status">
          {text.connection.lost}
        </p>
      );
    case "locked":
      return <Blocked title={text.connection.lockedTitle} body={text.connection.locked} />;
    case "gone":
      return <Blocked title={text.connection.goneTitle} body={text.connection.gone} />;
  }
}

function Blocked({ title, body }: Readonly<{ title: string; body: string }>) {
  return (
    <section className="empty" role="alert">
      <h1>{title}</h1>
      <p>{body}</p>
      <p>
        <code>{text.connection.command}</code>
      </p>
    </section>
  );
}
