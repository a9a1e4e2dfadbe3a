/** A service that hands out a new key to whoever asks, at every address, as many as they like. Which those were is the log's to tell. */
import { randomBytes } from "node:crypto";
import type { ServerResponse } from "node:http";
import type { OriginHandler } from "../../doubles/internet-outside.ts";

const handler: OriginHandler = (request, answer) => {
  const response = answer as ServerResponse;
  request.on("data", () => {});
  request.on("end", () => {
    const issued = `issued-${randomBytes(12).toString("hex")}`;
    response.writeHead(200, { "content-type": "application/json", "set-cookie": `session=${issued}`, "x-issued": issued });
    response.end(JSON.stringify({ access_token: issued, token: issued, key: issued }));
  });
};
export default handler;
