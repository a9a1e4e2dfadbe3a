/** The page's right to speak: trades the address's one-time token for a session, and finds out whether an older one still holds. */
import { keySubprotocol, sessionResult, WEB_SUBPROTOCOL } from "../../contract/index.ts";

const KEY = "cloche.key";

/** `locked`: this browser has no session; only a new address opens one. `gone`: the web host does not answer. */
export type SessionState = "open" | "locked" | "gone";

async function post(path: string, body: object): Promise<Response | undefined> {
  try {
    return await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  } catch {
    return undefined;
  }
}

/** Takes the token out of the address before anything else can see it, and trades it. */
export async function enterSession(): Promise<void> {
  const token = /^#token=([0-9a-f]{64})$/.exec(location.hash)?.[1];
  if (token === undefined) return;
  history.replaceState(null, "", "/#/");
  const response = await post("/session", { token });
  if (!response?.ok) return;
  const result = sessionResult.safeParse(await response.json());
  if (result.success) localStorage.setItem(KEY, result.data.key);
}

export async function checkSession(): Promise<SessionState> {
  const key = localStorage.getItem(KEY);
  if (key === null) return "locked";
  const response = await post("/session/check", { key });
  if (response === undefined) return "gone";
  return response.ok ? "open" : "locked";
}

/** A WebSocket to our own host, with the key where the cookie alone would not do. */
export function openSocket(path: string): WebSocket {
  const url = `${location.origin.replace("http", "ws")}${path}`;
  return new WebSocket(url, [WEB_SUBPROTOCOL, keySubprotocol(localStorage.getItem(KEY) ?? "none")]);
}
