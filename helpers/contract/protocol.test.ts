// The golden vectors through the schemas, as the keeper reads them. Go runs the same files in go/ and in its programs.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { schemaFiles } from "./generate.ts";
import { agent, errorData, helper, type Protocol, share } from "./protocol.ts";

const here = import.meta.dirname;
const protocols: Record<string, Protocol> = { helper, share, agent };

const direction = z.enum(["to-helper", "from-helper", "to-share", "from-share", "to-agent", "from-agent"]);
const vectorFile = z.strictObject({
  version: z.literal(1),
  protocol: z.enum(["helper", "share", "agent"]),
  count: z.int(),
  vectors: z.array(
    z.strictObject({
      id: z.string().regex(/^(he|sh|ag)-[0-9]{4}$/),
      why: z.string().min(1),
      protocol: z.string(),
      direction,
      /** the request that a result answers */
      answers: z.string().optional(),
      line: z.string().optional(),
      lineBase64: z.string().optional(),
      expect: z.union([
        z.strictObject({ accept: z.literal(true) }),
        z.strictObject({
          /** "framing" closes the connection; a code is answered, with the JSON-RPC number */
          reject: z.string(),
          number: z.int().optional(),
          /** languages whose parser cannot tell; the other side refuses */
          except: z.array(z.enum(["typescript"])).optional(),
        }),
      ]),
    }),
  ),
});
type Vector = z.infer<typeof vectorFile>["vectors"][number];

const files = readdirSync(join(here, "vectors")).sort();
const read = (file: string) => vectorFile.parse(JSON.parse(readFileSync(join(here, "vectors", file), "utf8")));

const id = z.int().min(1);
const members = z.record(z.string(), z.unknown());
const request = z.strictObject({ jsonrpc: z.literal("2.0"), id, method: z.string().min(1), params: members });
const notification = z.strictObject({ jsonrpc: z.literal("2.0"), method: z.string().min(1), params: members });
const result = z.strictObject({ jsonrpc: z.literal("2.0"), id, result: members });
const failure = z.strictObject({
  jsonrpc: z.literal("2.0"),
  id,
  error: z.strictObject({ code: z.int(), message: z.string(), data: errorData }),
});

/** What a strict reader does with a line: `accept`, `framing`, or a JSON-RPC error number. */
function verdict(vector: Vector): "accept" | "framing" | number {
  const protocol = protocols[vector.protocol];
  if (!protocol) throw new Error(`no protocol ${vector.protocol}`);
  let message: unknown;
  try {
    const bytes = vector.line === undefined ? Buffer.from(vector.lineBase64 ?? "", "base64") : Buffer.from(vector.line);
    message = JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch {
    return "framing";
  }
  if (vector.direction.startsWith("to-")) {
    const parsed = request.safeParse(message);
    if (!parsed.success) return "framing";
    const schema = Object.hasOwn(protocol.requests, parsed.data.method) ? protocol.requests[parsed.data.method] : undefined;
    if (!schema) return -32_601;
    return schema.params.safeParse(parsed.data.params).success ? "accept" : -32_602;
  }
  // What comes from a program of ours, or from a guest, is never answered: what does not fit ends the connection.
  const asResult = result.safeParse(message);
  if (asResult.success) {
    const schema = vector.answers === undefined ? undefined : protocol.requests[vector.answers];
    return schema?.result.safeParse(asResult.data.result).success ? "accept" : "framing";
  }
  const asNotification = notification.safeParse(message);
  if (asNotification.success) {
    const { method, params } = asNotification.data;
    const schema = Object.hasOwn(protocol.notifications, method) ? protocol.notifications[method] : undefined;
    return schema?.safeParse(params).success ? "accept" : "framing";
  }
  return failure.safeParse(message).success ? "accept" : "framing";
}

const wanted = ({ expect: e }: Vector) => ("accept" in e ? "accept" : e.reject === "framing" ? "framing" : e.number);

test("there are vectors for each protocol and no other files", () => {
  expect(files).toEqual(["agent.json", "helper.json", "share.json"]);
});

describe.each(files)("vectors/%s", (name) => {
  const file = read(name);

  test("states its count, has each id once, and every vector is of its protocol", () => {
    expect(file.vectors.length).toBe(file.count);
    expect(new Set(file.vectors.map((v) => v.id)).size).toBe(file.count);
    for (const v of file.vectors) {
      expect(v.protocol).toBe(file.protocol);
      expect(v.direction.endsWith(`-${file.protocol}`)).toBe(true);
      expect((v.line === undefined) !== (v.lineBase64 === undefined)).toBe(true);
    }
  });

  test("has a good and a bad message for every request, and a good one for every notification", () => {
    const protocol = protocols[file.protocol];
    const methods = (kind: string, good: boolean) =>
      new Set(
        file.vectors
          .filter((v) => v.direction.startsWith(kind) && "accept" in v.expect === good && v.line !== undefined)
          .map((v) => /"method":"([A-Za-z]+)"/.exec(v.line ?? "")?.[1]),
      );
    for (const method of Object.keys(protocol?.requests ?? {})) {
      expect(methods("to-", true), `good ${method}`).toContain(method);
      expect(methods("to-", false), `bad ${method}`).toContain(method);
    }
    for (const method of Object.keys(protocol?.notifications ?? {})) {
      expect(methods("from-", true), `good ${method}`).toContain(method);
    }
  });

  let ran = 0;
  test.each(file.vectors.map((v) => [v.id, v.why, v] as const))("%s %s", (_id, _why, vector) => {
    ran += 1;
    if ("reject" in vector.expect && vector.expect.except?.includes("typescript")) return;
    expect(verdict(vector)).toBe(wanted(vector));
  });
  test("every vector ran", () => {
    expect(ran).toBe(file.count);
  });
});

test("schema/ is what generate.ts makes of protocol.ts (run it if this fails)", () => {
  const made = schemaFiles();
  expect(readdirSync(join(here, "schema")).sort()).toEqual(Object.keys(made).sort());
  for (const [name, text] of Object.entries(made)) {
    expect(readFileSync(join(here, "schema", name), "utf8"), name).toBe(text);
  }
});

test("every code in errors.json is dotted, unique and explained", () => {
  const { codes } = z
    .strictObject({ version: z.literal(1), codes: z.array(z.strictObject({ code: z.string(), means: z.string().min(10) })) })
    .parse(JSON.parse(readFileSync(join(here, "errors.json"), "utf8")));
  const names = codes.map((c) => c.code);
  expect(new Set(names).size).toBe(names.length);
  for (const name of names) expect(name).toMatch(/^(protocol|helper|share|agent)\.[a-z][a-z-]*$/);
});
