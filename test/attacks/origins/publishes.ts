/**
 * Hosts of code and packages, as they are: what is cloned and installed is there, and whoever pushes or publishes succeeds. What came of
 * that is the log's and the repository's to tell. The repository and the packages are in the directory that this module's address names.
 */
import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { basename, join } from "node:path";
import type { OriginHandler } from "../../doubles/internet.ts";

const root = new URL(import.meta.url).searchParams.get("root") ?? "";

const answer: OriginHandler = (request, response, seen) => {
  const reply = response as ServerResponse;
  const { pathname, search } = new URL(seen.target, "http://origin");
  const file = join(root, "files", basename(pathname));
  if (pathname.includes(".git/")) return git(request as IncomingMessage, reply, seen.method, pathname, search.slice(1));
  if (seen.method === "GET" && existsSync(file)) return void reply.end(readFileSync(file));
  request.on("end", () => reply.writeHead(seen.method === "GET" ? 200 : 201, { "content-type": "application/json" }).end("{}"));
};
export default answer;

/** The service of git's own, by CGI (RFC 3875). */
function git(request: IncomingMessage, reply: ServerResponse, method: string, path: string, query: string): void {
  const { "content-type": type = "", "content-encoding": encoding = "", "git-protocol": protocol = "" } = request.headers;
  const service = spawn("git", ["http-backend"], {
    env: {
      PATH: process.env.PATH,
      GIT_PROJECT_ROOT: root,
      GIT_HTTP_EXPORT_ALL: "1",
      GIT_CONFIG_COUNT: "1",
      GIT_CONFIG_KEY_0: "http.receivepack",
      GIT_CONFIG_VALUE_0: "true",
      REQUEST_METHOD: method,
      PATH_INFO: path,
      QUERY_STRING: query,
      CONTENT_TYPE: type,
      HTTP_CONTENT_ENCODING: encoding,
      GIT_PROTOCOL: [protocol].flat().join(),
    },
    stdio: ["pipe", "pipe", "inherit"],
  });
  service.stdin.on("error", () => {});
  request.pipe(service.stdin);
  const parts: Buffer[] = [];
  service.stdout.on("data", (chunk: Buffer) => parts.push(chunk));
  service.on("close", () => {
    const all = Buffer.concat(parts);
    const end = all.indexOf("\r\n\r\n");
    const head = all.toString("latin1", 0, end).split("\r\n");
    const headers = head.map((line) => line.split(": ", 2) as [string, string]).filter(([name]) => name !== "Status");
    const status = Number(/^Status: (\d+)/m.exec(head.join("\n"))?.[1] ?? 200);
    reply.writeHead(status, Object.fromEntries(headers)).end(all.subarray(end + 4));
  });
}
