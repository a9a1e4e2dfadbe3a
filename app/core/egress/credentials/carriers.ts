/**
 * Which places of a request carry a credential, by their names. A server reads a header by its name, so a key works only in
 * a name that its server knows: the known ones stand here, and words that such names are made of catch their kin. `_` counts as `-`,
 * as it does for servers that hand headers on as variables.
 *
 * What is refused in error is told in plain words and can be allowed by a rule; what passes in error is another account's key.
 */

/** Credentials whose names have none of the words below. */
const KEY_HEADERS = new Set(
  `dpop x-wsse x-honeycomb-team x-jfrog-art-api x-pm-appid x-api x-access cf-access-client-id
  x-client-cert x-ssl-cert x-forwarded-client-cert x-ms-client-principal`.split(/\s+/),
);

/**
 * Named like a credential and none: protocol values, numbers of a session that no server takes for a login, and marks of a package manager.
 * CSRF tokens are not here: they mean something only beside a session's cookie, which does not pass either.
 */
const HARMLESS_HEADERS = new Set(
  `sec-websocket-key idempotency-key x-idempotency-key npm-session npm-auth-type mcp-session-id x-claude-code-session-id
  surrogate-key access-control-request-headers`.split(/\s+/),
);

const KEY_WORD = /token|secret|passw|passphrase|credential|authoriz|authentic|session|bearer|jwt|oauth|signature|cookie|assertion/;
const KEY_SEGMENT = /^(?:pwd|pass|auth|sid|sig|sign|sso|saml|apikeys?|keyid)$|(?:key|keys|auth|pat)$/;

/** `X_Api_Key` and `x-api-key` are one name to many servers. */
export const plainName = (name: string): string => name.toLowerCase().replaceAll("_", "-");

const camelSegments = (name: string): string[] =>
  name
    .replaceAll(/([a-z0-9])(?=[A-Z])/g, "$1-")
    .toLowerCase()
    .split(/[^a-z0-9]+/);

/** The header is there to carry a credential. */
function isKeyHeader(plain: string): boolean {
  if (HARMLESS_HEADERS.has(plain)) return false;
  if (KEY_HEADERS.has(plain)) return true;
  return KEY_WORD.test(plain) || plain.split(/[^a-z0-9]+/).some((segment) => KEY_SEGMENT.test(segment));
}

/** Headers in which a long random value is ordinary, by name: numbers, digests, traces, caching. */
const RANDOM_BY_NATURE =
  /(?:^|-)(?:id|uuid|guid|hash|md5|sha1|sha256|sha512|crc32|crc32c|digest|checksum|etag|nonce|trace|span|traceparent|tracestate|baggage|b3|version|agent)$|^(?:if-|content-|accept|x-client-data$|x-b3-|x-datadog-|sentry-trace|uber-trace|cache-|user-agent|host|te|date|range|referer|origin|link|priority|sec-|connection|expect|from|via|forwarded|x-forwarded-|x-real-|x-stainless-|git-protocol|docker-|npm-|pacote-|x-requested-with)/;

/**
 * Cookies that load balancers and bot filters hand to everybody: they say nothing of who asks. Clients with a cookie jar send them on by themselves,
 * so they pass. Every other cookie is taken for a session: a site that hands one out gives a login, or what becomes one.
 */
const BALANCER_COOKIE =
  /^(?:__cf_bm|__cflb|_cfuvid|cf_ob_info|cf_use_ob|__cfwaitingroom|AWSALB(?:TG)?(?:CORS)?|AWSELB(?:CORS)?|GCLB|ARRAffinity(?:SameSite)?|ApplicationGatewayAffinity(?:CORS)?|ak_bmsc|bm_sv|bm_sz|bm_mi|akacd_[\w.-]{1,32}|visid_incap_\d{1,12}|nlbi_\d{1,12}|incap_ses_[\d_]{1,24})$/;

export const isBalancerCookie = (name: string): boolean => BALANCER_COOKIE.test(name);

/** Query parameters that carry a credential whatever is in them; `-` and `_` count as one. */
const KEY_PARAMETERS = new Set(
  `access-token accesstoken token auth-token authtoken id-token idtoken refresh-token refreshtoken api-key apikey api-token apitoken app-key appkey
  application-key app-id-key access-key accesskey accesskeyid access-key-id awsaccesskeyid aws-access-key-id secret-access-key googleaccessid client-secret
  clientsecret secret secret-key secretkey password passwd pwd passphrase authorization bearer jwt private-token job-token deploy-token
  oauth-token oauth-signature oauth-consumer-key oauth-verifier x-amz-signature x-amz-credential x-amz-security-token x-goog-signature x-goog-credential
  signature hapikey subscription-key ocp-apim-subscription-key x-api-key x-auth-token client-assertion assertion samlresponse samlart
  sessionid session-id sessiontoken session-token jsessionid phpsessid circle-token webhook-secret user-token bot-token personal-access-token
  code-verifier device-code credential credentials`.split(/\s+/),
);
/** Names made of such words that only turn a page. */
const PAGING =
  /^(?:(?:next|prev|previous|page|next-page|start|continuation|sync|cursor|resume|delta|skip|change)-?token|nextpagetoken|x-ms-continuation-?token|(?:max|min|num|total)-tokens?|tokens)$/;
const KEY_PARAMETER_WORD = /token|secret|passw|passphrase|credential|authoriz|bearer|jwt|oauth|signature/;
const MAYBE_SEGMENT = /^(?:auth|sig|sign|session|sid|code|pat|pass|ticket|otp|appid)$|(?:key|keys|auth)$/;

/**
 * The parameter carries a credential: by its name, or where the name can mean much else (`key`, `sig`, `code`), by a value that looks like one.
 * An empty one carries nothing.
 */
export function isKeyParameter(name: string, value: string): boolean {
  if (value === "") return false;
  const segments = camelSegments(name);
  const plain = plainName(name);
  const dashed = segments.join("-");
  if (PAGING.test(plain) || PAGING.test(dashed)) return false;
  if (KEY_PARAMETERS.has(plain) || KEY_PARAMETERS.has(dashed) || KEY_PARAMETER_WORD.test(plain)) return true;
  return segments.some((segment) => MAYBE_SEGMENT.test(segment)) && /^[A-Za-z0-9._~+/=:-]{16,}$/.test(value) && /[0-9]/.test(value);
}

/** What only a signed link to one download has: its holder can read that one object and nothing else. */
const DOWNLOAD_SIGNATURE =
  /^(?:x-amz-(?:algorithm|credential|date|expires|security-token|signature|signedheaders)|x-goog-(?:algorithm|credential|date|expires|signature|signedheaders)|sig|signature|key-pair-id|policy|jwt|awsaccesskeyid|googleaccessid|ske?|skoid|sktid|verify)$/;

export const isDownloadSignature = (name: string): boolean => DOWNLOAD_SIGNATURE.test(plainName(name));

/**
 * Headers and parameters by which a server is told another method, host, path or header than the one that was decided: also what stands for
 * `x-forwarded-host` by now (RFC 7239), and where a COPY or MOVE of WebDAV writes to.
 */
const REWRITES =
  /^(?:x-http-method(?:-override)?|x-method-override|x-original-(?:url|uri|host|method)|x-rewrite-(?:url|uri)|x-override-url|x-forwarded-(?:host|uri|path|prefix|server|method)|x-host|x-envoy-original-path|forwarded|destination)$/;
const REWRITING_PARAMETERS =
  /^(?:-method|x-http-method(?:-override)?|\$http(?:method|headers|-method|-headers)|\$?httpmethod|\$(?:req|ct))$/;

export const isRewriteParameter = (name: string): boolean => REWRITING_PARAMETERS.test(plainName(name));

/** Headers that name what the server is to fetch or call: an address, or another object of an object store. */
const REMOTE =
  /^(?:callback|x-[a-z0-9]+-copy-source|x-oss-callback(?:-var)?|x-(?:callback|webhook|notify|notification)-ur[il]|(?:callback|webhook|notification)-ur[il])$/;

/** What a header's name says about it. */
export interface HeaderName {
  /** in small letters, `_` as `-` */
  plain: string;
  /** it is there to carry a credential */
  key: boolean;
  /** a long random value in it is ordinary */
  random: boolean;
  /** it tells the server another request than was decided */
  rewrites: boolean;
  /** it makes the server fetch or call */
  fetches: boolean;
}

/** Programs send the same few names over and over; others are not worth keeping. */
const names = new Map<string, HeaderName>();
const MAX_NAMES = 512;

export function headerName(name: string): HeaderName {
  const known = names.get(name);
  if (known) return known;
  const plain = plainName(name);
  const made: HeaderName = {
    plain,
    key: isKeyHeader(plain),
    random: HARMLESS_HEADERS.has(plain) || RANDOM_BY_NATURE.test(plain),
    rewrites: REWRITES.test(plain),
    fetches: REMOTE.test(plain),
  };
  if (name.length <= 64 && names.size < MAX_NAMES) names.set(name, made);
  return made;
}
