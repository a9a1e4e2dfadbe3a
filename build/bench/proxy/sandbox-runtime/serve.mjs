// sandbox-runtime's proxy as its library starts it, with TLS ended as its documentation says. Argument: the host that may be reached.
// One line on stdout says where it listens and with which token; it ends with its stdin.

import { SandboxManager } from "@anthropic-ai/sandbox-runtime";

const [host, caCertPath, caKeyPath] = process.argv.slice(2);
await SandboxManager.initialize({
  network: { allowedDomains: [host], deniedDomains: [], tlsTerminate: { caCertPath, caKeyPath } },
  filesystem: { denyRead: [], allowWrite: [], denyWrite: [] },
});
process.stdout.write(`${JSON.stringify({ port: SandboxManager.getProxyPort(), token: SandboxManager.getProxyAuthToken() })}\n`);
process.stdin.resume().on("end", async () => {
  await SandboxManager.reset();
  process.exit();
});
