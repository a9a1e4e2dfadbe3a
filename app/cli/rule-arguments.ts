/** Rules and presets as they are typed. The keeper decides whether a rule can be used; here is told what was meant instead. */
import { domainToASCII } from "node:url";
import { type NetworkPreset, networkPreset, type RuleDraft, type RuleScope, ruleScope } from "../contract/index.ts";
import { byteSize, duration, type OptionTable, type Parsed, usage, wholeNumber } from "./args.ts";

export const RULE_OPTIONS: OptionTable = {
  "--method": "values",
  "--path": "values",
  "--port": "value",
  "--for": "value",
  "--upgrade": "flag",
  "--opaque": "flag",
  "--credentials": "value",
  "--private": "value",
  "--requests": "value",
  "--bytes": "value",
  "--until": "value",
  "--reason": "value",
};
/** They say what passes, so a rule that refuses has none of them. */
const OF_ALLOW = ["--upgrade", "--opaque", "--credentials", "--private", "--requests", "--bytes"];

/** `HOST` or `HOST:PORT`; an IPv6 address stands in brackets. */
export function hostArgument(text: string, where: string): { host: string; port?: number } {
  if (text.includes("/") || text.includes("@")) {
    const { hostname = "", pathname = "/" } = URL.canParse(text) ? new URL(text) : {};
    const fix = hostname === "" ? "api.example.com" : `${hostname}${pathname === "/" ? "" : ` with --path '${pathname}'`}`;
    throw usage(`${where} takes a host and no address of a page: ${JSON.stringify(text)}.`, `Write the host alone: ${fix}.`);
  }
  const match = /^(\[[^\]]*\]|[^:]*)(?::([0-9]{1,5}))?$/.exec(text);
  const [, host = "", port] = match ?? [];
  if (!match || host === "") {
    const address = text.split(":").length > 2 ? "An IPv6 address stands in brackets: [2001:db8::1]." : "Write HOST or HOST:PORT.";
    throw usage(`${where} takes a host, not ${JSON.stringify(text)}.`, address);
  }
  if (!/^[\x00-\x7f]*$/.test(host)) {
    const ascii = domainToASCII(host);
    throw usage(
      `A host is written in its ASCII form, so that no letter can look like another one: ${JSON.stringify(host)}.`,
      ascii === "" ? "Write the name as its DNS entry has it." : `If that is the one you mean, write ${ascii}.`,
    );
  }
  return { host: host.toLowerCase(), ...(port === undefined ? {} : { port: portNumber(port, where) }) };
}

function portNumber(text: string, where: string): number {
  const port = wholeNumber(text, where);
  if (port < 1 || port > 65_535) throw usage(`${where}: a port is a number from 1 to 65535, not ${text}.`);
  return port;
}

function requestCount(text: string): number {
  const count = wholeNumber(text, "--requests");
  if (count === 0) throw usage("--requests takes a number from 1 on; `cloche deny` refuses every request.");
  return count;
}

/** The rule that `cloche allow` and `cloche deny` make of their words. */
export function ruleArguments(
  decision: "allow" | "deny",
  typed: string,
  parsed: Parsed,
  now = Date.now(),
): { rule: RuleDraft; scope: RuleScope } {
  const { flags, values, lists } = parsed;
  const given = OF_ALLOW.find((option) => decision === "deny" && (flags.has(option) || option in values));
  if (given) throw usage(`${given} says what passes, so it goes with \`cloche allow\` only.`);
  const host = hostArgument(typed, `\`cloche ${decision}\``);
  const port = values["--port"] === undefined ? host.port : portNumber(values["--port"], "--port");
  if (host.port !== undefined && port !== host.port) throw usage("Two ports were given: write one of HOST:PORT and --port.");
  if (values["--credentials"] !== undefined && values["--credentials"] !== "guest") {
    throw usage("--credentials takes only `guest`: keys that the task brought itself then pass at this host.");
  }
  const methods = texts(lists["--method"]).flatMap((list) => list.split(","));
  const paths = texts(lists["--path"]);
  for (const method of methods)
    if (!/^[A-Za-z]{1,32}$/.test(method)) throw usage(`--method takes a method such as GET, not ${JSON.stringify(method)}.`);
  for (const path of paths)
    if (!path.startsWith("/"))
      throw usage(`--path takes a path that begins with /, not ${JSON.stringify(path)}.`, "For example: --path '/repos/**'.");
  const scope = ruleScope.safeParse(values["--for"] ?? "task");
  if (!scope.success) throw usage(`--for takes ${ruleScope.options.join(", ")}, not ${JSON.stringify(values["--for"])}.`);
  const rule: RuleDraft = {
    decision,
    host: host.host,
    ...(port === undefined ? {} : { port }),
    ...(methods.length > 0 ? { methods: methods.map((method) => method.toUpperCase()) } : {}),
    ...(paths.length > 0 ? { paths } : {}),
    ...(flags.has("--upgrade") ? { upgrade: true as const } : {}),
    ...(flags.has("--opaque") ? { opaque: true as const } : {}),
    ...(values["--credentials"] === undefined ? {} : { credentials: "guest" as const }),
    ...(values["--private"] === undefined ? {} : { private: values["--private"] }),
    ...(values["--requests"] === undefined ? {} : { requests: requestCount(values["--requests"]) }),
    ...(values["--bytes"] === undefined ? {} : { bytes: byteSize(values["--bytes"], "--bytes") }),
    ...(values["--until"] === undefined ? {} : { until: new Date(now + duration(values["--until"], "--until")).toISOString() }),
    ...(values["--reason"] === undefined ? {} : { reason: values["--reason"] }),
  };
  return { rule, scope: scope.data };
}

/** Rules of `--allow HOST` and `--deny HOST`: every method and path. */
export function hostRules(parsed: Parsed): RuleDraft[] {
  const of = (decision: "allow" | "deny") =>
    texts(parsed.lists[`--${decision}`]).map((text): RuleDraft => ({ decision, ...hostArgument(text, `--${decision}`) }));
  return [...of("deny"), ...of("allow")];
}

/** `models,git`; `none` stands alone and is no preset. */
export function presetArguments(text: string, where: string): NetworkPreset[] {
  const presets = text.split(",").map((word) => {
    const preset = networkPreset.safeParse(word.trim());
    if (!preset.success)
      throw usage(`${where} takes ${networkPreset.options.join(", ")}, or several with commas, not ${JSON.stringify(word)}.`);
    return preset.data;
  });
  if (presets.length > 1 && presets.includes("none")) throw usage(`${where}: none stands alone.`);
  return [...new Set(presets)].filter((preset) => preset !== "none");
}

export const texts = (list: readonly Buffer[] = []): string[] => list.map((word) => word.toString("utf8"));
