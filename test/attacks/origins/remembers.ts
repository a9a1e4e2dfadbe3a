/** A service that keeps what it is sent and shows it to whoever asks, as notes, logs and mirrors do: whole, compressed, or a part, as it is asked. */
import type { ServerResponse } from "node:http";
import { gzipSync } from "node:zlib";
import type { OriginHandler } from "../../doubles/internet-outside.ts";

/** one memory for all hosts of it */
let kept = "nothing so far";

const handler: OriginHandler = (request, answer, seen) => {
  const response = answer as ServerResponse;
  request.on("data", () => {});
  request.on("end", () => {
    const query = new URL(seen.target, "http://origin").searchParams.get("note");
    if (seen.method === "POST") kept = query ?? seen.body;
    const text = Buffer.from(seen.method === "POST" ? "kept" : kept);
    const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "") ?? [];
    if (from !== undefined && to !== undefined) {
      response.writeHead(206, { "content-range": `bytes ${from}-${to}/${text.length}` });
      response.end(text.subarray(Number(from), Number(to) + 1));
    } else if (String(request.headers["accept-encoding"] ?? "").includes("gzip")) {
      response.writeHead(200, { "content-encoding": "gzip" });
      response.end(gzipSync(text));
    } else {
      response.writeHead(200, { "x-note": text.toString() });
      response.end(text);
    }
  });
};
export default handler;
