/**
 * How keys of known providers look. A shape is a public prefix and what follows it; `lead` is what a stand-in shares with its
 * key, because clients check it. Shapes are looked for in the whole of a header, a query and a path, so each begins at a border and
 * ends after a fixed count of characters: the search stays linear whatever a guest sends.
 */
interface KeyShape {
  /** literal public prefix, as a pattern */
  lead: string;
  /** pattern of the least that has to follow */
  rest: string;
}

const shape = (lead: string, rest: string): KeyShape => ({ lead, rest });

/** Longer leads stand before the shorter ones that they begin with. */
const SHAPES: readonly KeyShape[] = [
  // model APIs
  shape("sk-ant-(?:api|admin|oat|ort|sid)[0-9]{2}-", "[\\w-]{16}"),
  shape("sk-ant-", "[\\w-]{12}"),
  shape("sk-(?:proj|svcacct|admin|service|None)-", "[\\w-]{16}"),
  shape("sk-or-v1-", "[0-9a-f]{16}"),
  shape("sk-lf-", "[\\w-]{16}"),
  shape("sk-", "[A-Za-z0-9]{20}"),
  shape("sess-", "[A-Za-z0-9]{24}"),
  shape("AIza", "[\\w-]{24}"),
  shape("AQ\\.Ab", "[\\w-]{24}"),
  shape("gsk_", "[A-Za-z0-9]{24}"),
  shape("xai-", "[A-Za-z0-9]{24}"),
  shape("pplx-", "[A-Za-z0-9]{24}"),
  shape("hf_", "[A-Za-z0-9]{20}"),
  shape("api_org_", "[A-Za-z0-9]{20}"),
  shape("r8_", "[A-Za-z0-9]{24}"),
  shape("nvapi-", "[\\w-]{24}"),
  shape("tgp_v1_", "[\\w-]{24}"),
  shape("fw_", "[A-Za-z0-9]{20}"),
  shape("csk-", "[a-z0-9]{24}"),
  shape("voyage-|pa-", "[\\w-]{40}"),
  // code hosts
  shape("github_pat_", "[A-Za-z0-9_]{20}"),
  shape("gh[pousr]_", "[A-Za-z0-9]{20}"),
  shape("gl(?:pat|dt|rt|cbt|ptt|ft|soat|agent|imt|rtr|oas|ffct|wt)-", "[\\w-]{16}"),
  shape("GR1348941", "[\\w-]{16}"),
  shape("AT(?:ATT|CTT|BB)3?", "[\\w-]{24}"),
  // package registries
  shape("npm_", "[A-Za-z0-9]{24}"),
  shape("pypi-", "AgE[\\w-]{16}"),
  shape("rubygems_", "[0-9a-f]{24}"),
  shape("oy2", "[a-z0-9]{40}"),
  shape("cio", "[A-Za-z0-9]{32}(?![A-Za-z0-9])"),
  shape("dckr_(?:pat|oat)_", "[\\w-]{16}"),
  // clouds
  shape("(?:AKIA|ASIA|ABIA|ACCA)", "[A-Z0-9]{16}"),
  shape("ya29\\.", "[\\w-]{16}"),
  shape("1//0", "[\\w-]{24}"),
  shape("GOCSPX-", "[\\w-]{20}"),
  shape("do[opr]_v1_", "[0-9a-f]{24}"),
  shape("hv[sbr]\\.", "[\\w-]{20}"),
  shape("v1\\.0-[0-9a-f]{24}-", "[0-9a-f]{24}"),
  shape("dp\\.(?:pt|st|ct|sa|scim|audit)\\.", "[A-Za-z0-9._-]{20}"),
  shape("pscale_(?:tkn|oauth|pw)_", "[\\w-]{16}"),
  shape("vc[pirka]_", "[A-Za-z0-9]{20}"),
  shape("sb(?:p|_secret|_publishable)_", "[\\w-]{20}"),
  shape("fo1_|fm2_", "[\\w+/=-]{24}"),
  shape("rnd_", "[A-Za-z0-9]{24}"),
  shape("nfp_", "[A-Za-z0-9]{24}"),
  shape("HRKU-", "[\\w-]{24}"),
  shape("tskey-(?:api|auth|client|scim|webhook)-", "[\\w-]{16}"),
  // chat, mail, payment, tools
  shape("xox[a-z](?:\\.xox[a-z])?-", "[A-Za-z0-9-]{10}"),
  shape("xapp-", "[A-Za-z0-9-]{16}"),
  shape("(?:sk|rk|pk)_(?:live|test)_", "[A-Za-z0-9]{12}"),
  shape("whsec_", "[A-Za-z0-9+/=]{16}"),
  shape("SG\\.", "[\\w-]{16,64}\\.[\\w-]{16}"),
  shape("key-", "[0-9a-f]{32}"),
  shape("xkeysib-", "[0-9a-f]{24}"),
  shape("shp(?:at|ss|ca|pa)_", "[0-9a-fA-F]{24}"),
  shape("sq0[a-z]{3}-", "[\\w-]{20}"),
  shape("lin_(?:api|oauth)_", "[A-Za-z0-9]{24}"),
  shape("ntn_", "[A-Za-z0-9]{24}"),
  shape("secret_", "[A-Za-z0-9]{40}"),
  shape("figd_", "[\\w-]{24}"),
  shape("PMAK-", "[0-9a-f]{20}"),
  shape("sntry[su]_", "[\\w+/=-]{20}"),
  shape("gl(?:c|sa)_", "[A-Za-z0-9_+/=]{24}"),
  shape("NRA[KA]-", "[A-Z0-9]{20}"),
  shape("phx_|phc_", "[A-Za-z0-9]{24}"),
  shape("dapi", "[0-9a-f]{32}"),
  // in an address it stands right behind "bot", at servers of its user's own too
  shape("(?:bot)?[0-9]{8,10}:AA", "[\\w-]{32}"),
  shape("[MNO][\\w-]{22,28}\\.[\\w-]{6}\\.", "[\\w-]{27}"),
  shape("CFPAT-", "[\\w-]{24}"),
  shape("pat[A-Za-z0-9]{14}\\.", "[0-9a-f]{24}"),
  shape("EAA[A-Za-z0-9]{2}", "[A-Za-z0-9]{60}"),
  // not one provider's
  shape("AGE-SECRET-KEY-1", "[0-9A-Z]{24}"),
  shape("eyJ", "[\\w-]{8,1024}\\.[\\w-]{4}"),
];

/** Ends of addresses that are a key as a whole, whichever relay of its owner's they go through. */
const KEY_ADDRESSES = ["T[A-Z0-9]{8,12}/B[A-Z0-9]{8,12}/[A-Za-z0-9]{24}", "webhooks/[0-9]{17,20}/[\\w-]{60}"];

const BORDER = "(?<![A-Za-z0-9])";
const ANY_KEY = new RegExp(
  `${BORDER}(?:${[...SHAPES.map(({ lead, rest }) => `(?:${lead})${rest}`), ...KEY_ADDRESSES].join("|")})|-----BEGIN [A-Z ]{0,32}PRIVATE KEY`,
);
const LEADS = SHAPES.map(({ lead }) => new RegExp(`^(?:${lead})`));

/** The shortest text that any of them fits. */
const MIN_KEY = 15;

/** A key of a known provider, a JWT or a private key stands somewhere in the text. */
export const holdsKnownKey = (text: string): boolean => text.length >= MIN_KEY && ANY_KEY.test(text);

/** The public prefix that a key shares with all of its kind, empty where the kind is not known. */
export function publicPrefix(value: string): string {
  if (!new RegExp(`^(?:${ANY_KEY.source})`).test(value)) return "";
  for (const lead of LEADS) {
    const found = lead.exec(value)?.[0];
    if (found !== undefined) return found;
  }
  return "";
}

/** The header of a JSON web token, where the value is one. */
export function webTokenHeader(value: string): Record<string, unknown> | undefined {
  const parts = value.split(".");
  if (parts.length !== 3 || !parts.every((part) => /^[\w-]*$/.test(part)) || !value.startsWith("eyJ")) return undefined;
  try {
    const [header, claims] = parts.slice(0, 2).map((part) => JSON.parse(Buffer.from(part, "base64url").toString("utf8")) as unknown);
    return isRecord(header) && isRecord(claims) ? header : undefined;
  } catch {
    // text that only looks like one
    return undefined;
  }
}

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null && !Array.isArray(value);

/**
 * What a random key looks like when nobody knows its kind: one word of 20 characters or more, letters and digits mixed.
 * Words of people, versions and lists of words are not; identifiers are, so that this is asked only where a name says nothing.
 */
export function looksRandom(text: string): boolean {
  if (!/^[A-Za-z0-9._~+/=:-]{20,4096}$/.test(text)) return false;
  return changes(text) >= 3;
}

/** How often letters and digits follow each other. */
export const changes = (text: string): number => text.match(/[A-Za-z](?=[0-9])|[0-9](?=[A-Za-z])/g)?.length ?? 0;
