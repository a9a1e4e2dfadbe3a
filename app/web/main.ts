/** `node web.mjs [--port N] [--no-open]`: the web host as a program. The address is the only line on stdout. */
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { formatProblem, ProblemError, toProblem } from "../contract/index.ts";
import { componentsPath, readComponents } from "../contract/node/index.ts";
import { runWeb } from "./index.ts";

function readArguments(): { port: number; open: boolean } {
  try {
    const { values } = parseArgs({ options: { port: { type: "string" }, "no-open": { type: "boolean" } }, strict: true });
    const port = Number(values.port ?? "0");
    if (!/^\d*$/.test(values.port ?? "") || port > 65_535) throw new Error(`--port takes a number up to 65535, not ${values.port}`);
    return { port, open: values["no-open"] !== true };
  } catch (error) {
    throw new ProblemError({
      code: "usage",
      message: `${(error as Error).message}. The web host was not started.`,
      next: ["cloche web [--port N] [--no-open]"],
    });
  }
}

try {
  const { port, open } = readArguments();
  const components = readComponents(componentsPath(fileURLToPath(import.meta.url)));
  const host = await runWeb({
    program: { node: components.node, entry: components.app.keeper },
    uiDir: components.app.ui,
    port,
    open,
    print: (line) => console.log(line),
  });
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => void host.close().then(() => process.exit(0)));
} catch (error) {
  console.error(`cloche: ${formatProblem(toProblem(error))}`);
  process.exit(125);
}
