/** The verdicts: each from what this computer's side saw, and each with a control that could have succeeded. */
import type { EgressEntry, ProofReport } from "../../contract/index.ts";
import type { Origins } from "./origins.ts";

export type Verdict = ProofReport["probes"][number];

/** What this computer's side knows when a round of probes is over. */
export interface Seen {
  readonly as: "user" | "root";
  readonly origins: Origins;
  /** decided and ended requests of the task */
  readonly entries: readonly EgressEntry[];
  /** paths of changes that wait in the folder that may be proposed in */
  readonly changes: readonly string[];
  /** texts: what lies beside the folders, in the folder to propose in, and in the one to read */
  readonly canary: string;
  readonly inside: string;
  readonly shown: string;
  /** what is in those files now */
  readonly now: { readonly canary: string; readonly inside: string; readonly shown: string };
  readonly value: string;
  readonly foreign: string;
  readonly name: string;
  /** how often the key's value and its stand-in stand on the task's disk */
  readonly onDisk: { readonly value: number; readonly standIn: number };
}

interface Probe {
  readonly id: string;
  readonly claim: string;
  /** whether the attempt could have succeeded */
  control(seen: Seen, report: string): boolean;
  held(seen: Seen, report: string): boolean;
}

const arrivedAt = (origin: { arrived: readonly { path: string }[] }, path: string) => origin.arrived.some((one) => one.path === path);
const everywhere = ({ bound, other, plain }: Origins) =>
  [bound, other, plain].flatMap(({ arrived }) => arrived.map(({ everything }) => everything));
const open = ({ as, origins }: Seen) => arrivedAt(origins.bound, `/open/${as}`);
const keyed = ({ as, origins, value }: Seen) =>
  origins.bound.arrived.some(({ path, everything }) => path === `/keyed/${as}` && everything.includes(value));
/** Requests that were seen to be asked for, and how they were decided. */
const asked = (seen: Seen, host: string) => seen.entries.filter(({ what, request }) => what === "decided" && request.host === host);

export const PROBES: readonly Probe[] = [
  {
    id: "F01",
    claim: "no link in a folder leads to a file beside it",
    control: ({ inside }, report) => report.includes(inside),
    held: ({ canary }, report) => !report.includes(canary),
  },
  {
    id: "F02",
    claim: "nothing is written through a link out of a folder",
    control: ({ as, changes }) => changes.includes(`made-${as}.txt`),
    held: ({ canary, now }) => now.canary === canary,
  },
  {
    id: "F07",
    claim: "a folder that is read only stays as it is, whatever is mounted anew",
    control: ({ shown }, report) => report.includes(shown),
    held: ({ shown, now }) => now.shown === shown,
  },
  {
    id: "P5",
    claim: "what is asked about changes no file until it is applied",
    control: ({ changes }) => changes.includes("inside.txt"),
    held: ({ inside, now }) => now.inside === inside,
  },
  {
    id: "E03",
    claim: "a host that no rule allows sees no connection",
    control: open,
    held: ({ origins }) => origins.unlisted.connections() === 0,
  },
  {
    id: "E04",
    claim: "a name that no rule allows is not looked up",
    control: (seen) => open(seen) && asked(seen, seen.name).length > 0,
    held: (seen) => asked(seen, seen.name).every(({ decision, address }) => decision === "deny" && address === undefined),
  },
  {
    id: "E05",
    claim: "an allowed host at a metadata service's address is not dialled",
    control: (seen) => open(seen) && seen.entries.some(({ request }) => request.host === "169.254.169.254"),
    held: ({ entries }) =>
      entries.every(({ request, status }) => request.host !== "169.254.169.254" || status === undefined || status >= 400),
  },
  {
    id: "E09",
    claim: "a request for another host than its connection's goes nowhere",
    control: open,
    held: ({ as, origins }) => !arrivedAt(origins.bound, `/open/${as}/host`),
  },
  {
    id: "E01",
    claim: "a key that is not yours to give does not leave, at allowed hosts either",
    control: keyed,
    held: ({ origins, foreign }) => !everywhere(origins).some((text) => text.includes(foreign)),
  },
  {
    id: "C02",
    claim: "your key is sent to no other host, and to no path that it was not given for",
    control: (seen) => keyed(seen) && arrivedAt(seen.origins.other, `/open/${seen.as}`),
    held: ({ as, origins, value }) =>
      !origins.other.arrived.some(({ everything }) => everything.includes(value)) &&
      !arrivedAt(origins.other, `/open/${as}/key`) &&
      !arrivedAt(origins.bound, `/open/${as}/key`),
  },
  {
    id: "C03",
    claim: "your key is not sent without TLS",
    control: (seen) => keyed(seen) && arrivedAt(seen.origins.plain, `/open/${seen.as}`),
    held: ({ as, origins, value }) =>
      !origins.plain.arrived.some(({ path, everything }) => everything.includes(value) || path === `/open/${as}/key`),
  },
  {
    id: "C01",
    claim: "your key is in no process and on no disk of the guest",
    control: (seen) => keyed(seen) && seen.onDisk.standIn > 0,
    held: ({ value, onDisk }, report) => !report.includes(value) && onDisk.value === 0,
  },
];

export function judge(seen: Seen): Verdict[] {
  const report = seen.origins.bound.arrived.find(({ path }) => path === `/report/${seen.as}`)?.body ?? "";
  return PROBES.map(({ id, claim, control, held }) => {
    const could = report !== "" && control(seen, report);
    // what broke is broken, whether or not its control succeeded
    const verdict = !held(seen, report) ? "broken" : could ? "held" : "void";
    return { id, as: seen.as, verdict, text: claim };
  });
}
