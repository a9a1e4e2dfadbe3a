/** A git service with locked repositories: whoever brings a user and a password is shown the branches, and which those were is the log's to tell. */
import type { ServerResponse } from "node:http";
import type { OriginHandler } from "../../doubles/internet.ts";

const answer: OriginHandler = (request, response) => {
  const reply = response as ServerResponse;
  const { authorization } = request.headers;
  if (!authorization) reply.writeHead(401, { "www-authenticate": 'Basic realm="git"' }).end();
  else {
    const [, password = ""] = Buffer.from(authorization.replace(/^Basic /, ""), "base64")
      .toString()
      .split(":");
    // that it sends the key back is part of the attack
    const names = ["main", password, Buffer.from(password).toString("hex")];
    reply.end(names.map((name, at) => `${String(at + 1).repeat(40)}\trefs/heads/${name}\n`).join(""));
  }
};
export default answer;
