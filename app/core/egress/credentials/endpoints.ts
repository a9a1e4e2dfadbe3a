/** Paths as a server reads them, and the patterns that name endpoints. */
/**
 * A path's segments as the most lenient server would see them: percent-decoded until nothing is left to decode, without parameters behind `;`, empty
 * segments and a format's ending, in lower case. Nothing when the path does not decode, or climbs: then nobody can say which endpoint it is.
 */
export function looseSegments(path: string): string[] | undefined {
  let text = path;
  for (let round = 0; text.includes("%"); round++) {
    if (round === 3) return undefined;
    try {
      text = decodeURIComponent(text);
    } catch {
      // an escape that is none, or not UTF-8
      return undefined;
    }
  }
  const segments = text
    .toLowerCase()
    .replaceAll("\\", "/")
    .split("/")
    .map((segment) => segment.replace(/;.*$/, "").replace(/\.(?:json|xml|html?)$/, ""))
    .filter((segment) => segment !== "" && segment !== ".");
  return segments.includes("..") ? undefined : segments;
}

/** A pattern of segments: `*` is one, `**` any number of them; inside a segment `*` is any text. */
export class Endpoint {
  readonly #text: string;
  /** made at the first path that may fit: there are some hundreds, and most are never asked */
  #pattern: RegExp | undefined;
  /** the last segment, where it has no star */
  readonly #last: string | undefined;

  constructor(pattern: string) {
    this.#text = pattern;
    const last = pattern.slice(pattern.lastIndexOf("/") + 1);
    this.#last = last.includes("*") ? undefined : last;
  }

  fits(segments: readonly string[]): boolean {
    // most end otherwise, which is told without reading the whole
    if (this.#last !== undefined && segments.at(-1) !== this.#last) return false;
    this.#pattern ??= expression(this.#text);
    return this.#pattern.test(segments.map((segment) => `/${segment.replaceAll("/", "%2f")}`).join(""));
  }
}

function expression(pattern: string): RegExp {
  const parts = pattern
    .split("/")
    .slice(1)
    .map((part) => (part === "**" ? "(?:/[^/]+)*" : `/${part.replaceAll(/[.+?^${}()|[\]\\]/g, "\\$&").replaceAll("*", "[^/]*")}`));
  return new RegExp(`^${parts.join("")}$`);
}

/** Words of a text, so that a long list reads as one. */
export const words = (text: string): string[] => text.trim().split(/\s+/);

export const endpoints = (patterns: readonly string[]): readonly Endpoint[] => patterns.map((pattern) => new Endpoint(pattern));

export const anyFits = (list: readonly Endpoint[], segments: readonly string[]): boolean =>
  list.some((endpoint) => endpoint.fits(segments));

/**
 * Segments of endpoints that hand out, list or register what gives access: keys, tokens, hooks, members, sharing, and batches, whose parts
 * carry methods and paths of their own. At a host without a profile a key reaches none of them unless its binding names paths.
 */
const GRANTING = new Set(
  `key keys apikey apikeys accesskey accesskeys deploykey deploykeys sshkey sshkeys gpgkey gpgkeys signingkeys authorizedkeys hmackeys
  token tokens accesstoken accesstokens personalaccesstoken personalaccesstokens deploytoken deploytokens refreshtoken refreshtokens servicetokens
  apitoken apitokens authtokens registrationtoken impersonationtokens clientsecrets ephemeralkeys
  oauth oauth2 authorize authorization authorizations credential credentials secret secrets
  webhook webhooks hook hooks webhookendpoints watch channels
  member members memberships invite invites invitation invitations collaborator collaborators owner owners permission permissions acl acls
  share shares sharing grant grants delegates forwarders serviceaccount serviceaccounts runner runners
  sso saml scim impersonate impersonation session sessions login signin signup register password passwords certificates
  assumerole assumerolewithwebidentity assumerolewithsaml getsessiontoken getfederationtoken
  issuetoken generatetoken generateidtoken exchangetoken tokenexchange refreshaccesstoken tokenrefresh refreshsession
  batch $batch graphql generateaccesstoken signjwt signblob setiampolicy`.split(/\s+/),
);

/** What makes a new key of one, where a segment before says that it is about keys: alone these are rates of currencies, and the like. */
const ISSUING = /^(?:exchange|issue|mint|refresh|renew)$/;
const ABOUT_KEYS = /^(?:auth|authn|authentication|identity|jwt|sts)$/;

/** The segment by which an endpoint grants access. A method behind a colon (`:setIamPolicy`) is one of its own. */
export function grantingSegment(segments: readonly string[]): string | undefined {
  let before = "";
  for (const segment of segments) {
    for (const part of segment.split(":")) {
      if (GRANTING.has(part.replaceAll(/[-_]/g, "")) || (ISSUING.test(part) && ABOUT_KEYS.test(before))) return segment;
      before = part;
    }
  }
  return undefined;
}

/** Endpoints anywhere at which a client logs in: what is in their bodies is a credential, and so is what they answer. */
const LOGINS = endpoints(
  words(`
  /**/oauth/token /**/oauth2/token /**/oauth2/*/token /**/oauth/access_token /**/oauth/device/code /**/oauth2/device_authorization /**/oauth2/devicecode
  /**/login/oauth/access_token /**/login/device/code /**/protocol/openid-connect/token /**/connect/token /**/oauth/v2/token /**/oauth2/v*/token
  /**/oauth/authorize_device /**/oauth/introspect /**/oauth/revoke`),
);

export const isLogin = (segments: readonly string[]): boolean => anyFits(LOGINS, segments);
