import "@xterm/xterm/css/xterm.css";
import "./style.css";
import { createRoot } from "react-dom/client";
import { App } from "./App.tsx";
import { makeActions } from "./actions.ts";
import { type Link, runFeed } from "./connection/feed.ts";
import { enterSession } from "./connection/session.ts";
import { PageContext } from "./page.ts";
import { createPageStore } from "./store/store.ts";

const store = createPageStore();
const link: Link = { client: undefined };
const page = { store, actions: makeActions(store, link) };
const root = document.getElementById("root");
if (root)
  createRoot(root).render(
    <PageContext value={page}>
      <App />
    </PageContext>,
  );
await enterSession();
void runFeed(store, link);
