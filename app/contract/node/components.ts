/** Where the programs that Cloche is made of are: one JSON file written by the build, read by whoever starts another program. */
import { readFileSync } from "node:fs";
import { dirname, isAbsolute, join } from "node:path";
import { z } from "zod";
import { ProblemError } from "../problem.ts";
import { firstIssue } from "../rpc.ts";

/** Version of components.json. 1: 2026-11-21, first. */
export const COMPONENTS_VERSION = 1;
const MAX_COMPONENTS_BYTES = 65_536;

const absolutePath = z
  .string()
  .min(1)
  .max(4096)
  .refine((path) => isAbsolute(path), "must be an absolute path");

export const componentsSchema = z.strictObject({
  version: z.literal(COMPONENTS_VERSION),
  /** the Node that runs our programs */
  node: absolutePath,
  /** this system's machine helper */
  helper: absolutePath,
  shareServer: absolutePath,
  /** vhost-device-vsock; used where the host has no /dev/vhost-vsock */
  vsockDevice: absolutePath,
  qemu: absolutePath,
  /** directory of the guest image and its manifest */
  imageDir: absolutePath,
  app: z.strictObject({
    cli: absolutePath,
    keeper: absolutePath,
    web: absolutePath,
    /** decides what leaves a task; one process per machine */
    proxy: absolutePath,
    /** directory of the built page */
    ui: absolutePath,
  }),
});
export type Components = z.infer<typeof componentsSchema>;

/** `CLOCHE_COMPONENTS`, else `components.json` in the directory above the running bundle's. */
export function componentsPath(bundleFile: string, env: Readonly<Record<string, string | undefined>> = process.env): string {
  return env.CLOCHE_COMPONENTS ? env.CLOCHE_COMPONENTS : join(dirname(dirname(bundleFile)), "components.json");
}

/** Reads and checks the file; throws components.missing. That the programs exist is told by whoever starts them. */
export function readComponents(path: string): Components {
  let evidence: string;
  try {
    const text = readFileSync(path, "utf8");
    const parsed = text.length > MAX_COMPONENTS_BYTES ? undefined : componentsSchema.safeParse(JSON.parse(text));
    if (parsed?.success) return parsed.data;
    evidence = parsed ? firstIssue(parsed.error) : `it is longer than ${MAX_COMPONENTS_BYTES} bytes`;
  } catch (error) {
    evidence = (error as Error).message;
  }
  throw new ProblemError({
    code: "components.missing",
    message: "The list of the programs that Cloche is made of cannot be used, so nothing was started.",
    evidence: `${path}: ${evidence}`,
    next: ["Run `npm start` in the repository: it builds what is missing."],
  });
}
