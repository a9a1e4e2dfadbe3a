import type { SecretUse } from "../../../contract/index.ts";
import type { Endpoint } from "./endpoints.ts";
import { CODE_HOSTS } from "./known-code-hosts.ts";
import { MODEL_HOSTS } from "./known-models.ts";
import { SERVICES } from "./known-services.ts";

/** Which kind of model API answers at a host: it decides what of a body makes it fetch or call out. */
export type ModelApi = "anthropic" | "openai" | "gemini";

/** What is known of a host beforehand. Everything here narrows, but for what is named harmless; a host without a profile has the general rules. */
export interface HostProfile {
  /** exact names, or patterns: a leading `*` is one label or more, any other one label */
  hosts: readonly string[];
  /** how its key is sent, and the variable that its tools read it from */
  key?: { use: SecretUse; env: string };
  /** a key without paths of its own reaches these only */
  reach?: readonly Endpoint[];
  /** a key without paths of its own does not reach these; absent, with `reach` absent too: the general list of granting segments */
  excluded?: readonly Endpoint[];
  /** endpoints at which a client logs in */
  logins?: readonly Endpoint[];
  /** endpoints whose path is the credential */
  pathKeys?: readonly Endpoint[];
  /** parameters that are credentials here, whatever they hold; in lower case */
  queryKeys?: ReadonlySet<string>;
  /** fields of a body that are credentials here, in the form of `plainField` */
  bodyKeys?: ReadonlySet<string>;
  /** a form with parts carries its own signature here: it is an upload for whoever signed it */
  signedForms?: true;
  /** headers named like credentials that are none here */
  harmless?: ReadonlySet<string>;
  /** authorizations that the provider publishes for everybody: they say nothing of who asks */
  anonymous?: ReadonlySet<string>;
  /** its GraphQL endpoint: a key without paths of its own may ask there, and change what grants nobody anything */
  graphql?: readonly Endpoint[];
  model?: ModelApi;
  /** bodies of these may be forms with parts, too */
  forms?: readonly Endpoint[];
  /** headers that switch on that the API fetches or runs something, with the pattern of the values that do */
  remote?: readonly { header: string; values: RegExp }[];
  /** downloads by signed links: the link's signature passes with GET and HEAD */
  signedDownloads?: true;
}

const EXACT = new Map<string, HostProfile>();
const PATTERNS: [RegExp, HostProfile][] = [];
for (const profile of [...MODEL_HOSTS, ...CODE_HOSTS, ...SERVICES]) {
  for (const host of profile.hosts) {
    const pattern = host.replaceAll(".", "\\.").replace(/^\*/, ".+").replaceAll("*", "[^.]+");
    if (host.includes("*")) PATTERNS.push([new RegExp(`^${pattern}$`), profile]);
    else EXACT.set(host, profile);
  }
}

/** The profile of a host, given in its canonical lower case. */
export function profileOf(host: string): HostProfile | undefined {
  const exact = EXACT.get(host);
  if (exact || PLAIN.has(host)) return exact;
  const found = PATTERNS.find(([pattern]) => pattern.test(host))?.[1];
  if (!found) {
    if (PLAIN.size === MAX_PLAIN) PLAIN.clear();
    PLAIN.add(host);
  }
  return found;
}

/** Hosts without a profile that were asked about. */
const PLAIN = new Set<string>();
const MAX_PLAIN = 256;
