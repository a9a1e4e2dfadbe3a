/**
 * Paths of requests: the one form that is decided and sent, and patterns over it.
 *
 * A path that a server could read as another one is refused: parent segments in every spelling, backslashes, controls, an escape of
 * an escape, bytes that are not UTF-8. What is left is brought into one form, which is sent. Where servers still differ in how they
 * read it (an escaped slash, repeated slashes), a rule allows it if it allows every reading, and refuses it if it refuses one.
 */

export interface RequestPath {
  /** with a leading slash, without a query */
  readonly path: string;
  /** with its question mark, or empty */
  readonly query: string;
  /** what rules are matched against, and what is recorded: see `decidedPath` */
  readonly decided: string;
}

/** Longest path that is decided, in characters. */
const MAX_PATH = 2048;
const MAX_TARGET = 32_768;
/** As the contract bounds a rule's patterns. */
const MAX_PATTERN = 1024;

const UNRESERVED = /[A-Za-z0-9._~-]/;
/** What else stands for itself in a path (RFC 3986, section 3.3). */
const LITERAL = /[!$&'()*+,;=:@]/;

/** A path of characters that stand for themselves is in its normal form. */
const PLAIN = /^[A-Za-z0-9._~!$&'()*+,;=:@/-]*$/;

const escaped = (byte: number) => `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;

/** The normal form of a request's target in origin form (RFC 9112, section 3.2.1). `path` and `query` are what is sent. */
export function normalPath(target: string): RequestPath | undefined {
  if (target.length > MAX_TARGET || !/^\/[\x21-\x7e]*$/.test(target) || target.includes("#")) return undefined;
  const mark = target.indexOf("?");
  const query = mark === -1 ? "" : target.slice(mark);
  const path = withoutDots(mark === -1 ? target : target.slice(0, mark));
  if (path === undefined) return undefined;
  const decided = decidedPath(path, query);
  return decided.length > MAX_PATH ? undefined : { path, query, decided };
}

/** The path in its normal form and without segments of one dot; nothing where it is unclear which segments it has. */
function withoutDots(raw: string): string | undefined {
  const plain = PLAIN.test(raw);
  // no segment begins with a dot, and none has a piece that does
  if (plain && !raw.includes("/.") && !raw.includes(";")) return raw;
  const path = (plain ? raw : normalise(raw))?.replace(/\/(\.\/)+/g, "/").replace(/\/\.$/, "/");
  return path?.split("/").some(isUnclear) ? undefined : path;
}

/** Some servers cut a segment at an escaped slash or at parameters (`..;x`) before they look for dots. */
const isUnclear = (segment: string) =>
  segment.split(/;|%3B|%2F/).some((piece, _, all) => piece === ".." || (piece === "." && all.length > 1));

/** Escapes of unreserved characters are undone, other escapes are in capitals, other characters are escaped (RFC 3986, section 6.2.2). */
function normalise(raw: string): string | undefined {
  if (/\\|%(?![0-9A-Fa-f]{2})|%(?:[01][0-9A-Fa-f]|7[Ff]|5[Cc])/.test(raw)) return undefined;
  try {
    decodeURIComponent(raw);
  } catch {
    return undefined; // not UTF-8, overlong forms of dots and slashes among it
  }
  const path = raw.replace(/%[0-9A-Fa-f]{2}|[^/]/g, (one) => {
    const byte = one.length === 3 ? Number.parseInt(one.slice(1), 16) : one.charCodeAt(0);
    const char = String.fromCharCode(byte);
    if (UNRESERVED.test(char)) return char;
    return one.length === 1 && LITERAL.test(char) ? char : escaped(byte);
  });
  return /%25[0-9A-Fa-f]{2}/.test(path) ? undefined : path;
}

/**
 * The path that a decision is about: with git's ref advertisement the query says whether a fetch or a push begins, so that much of it
 * belongs to the path: `/x/y.git/info/refs?service=git-upload-pack` is a fetch, any other query there counts as a push. Without a
 * query it is a file of a repository that is served as files.
 */
function decidedPath(path: string, query: string): string {
  const asked = query.replace(/^\?/, "");
  if (!path.endsWith("/info/refs") || asked === "") return path;
  return `${path}?service=${asked === "service=git-upload-pack" ? "git-upload-pack" : "git-receive-pack"}`;
}

const SERVICE = /(?<=\/info\/refs)\?service=git-(?:upload|receive)-pack$/;

/** Whether a path is one that `normalPath` gives to be decided. */
export function isDecided(path: string): boolean {
  const plain = path.replace(SERVICE, "");
  return normalPath(plain)?.path === plain && path.length <= MAX_PATH;
}

/** Escapes of characters that may as well stand for themselves are undone, to compare. */
const undone = (text: string) =>
  text.replace(/%[0-9A-F]{2}/g, (code) => {
    const char = String.fromCharCode(Number.parseInt(code.slice(1), 16));
    return LITERAL.test(char) ? char : code;
  });

/** The forms in which a server may take a normal path: encoded slashes as such or decoded, repeated slashes as such or as one. */
export function formsOf(path: string): readonly string[] {
  const plain = undone(path);
  if (!plain.includes("//") && !plain.includes("%2F")) return [plain];
  const decoded = plain.replaceAll("%2F", "/");
  return [...new Set([plain, decoded, ...[plain, decoded].map((form) => form.replace(/\/{2,}/g, "/"))])];
}

/** A pattern between its stars; `wide` has for each star whether it is `**`. */
export interface PathPattern {
  readonly literals: readonly string[];
  readonly wide: readonly boolean[];
}

export function parsePathPattern(text: string): PathPattern | { unfit: string } {
  const unfit = (why: string) => ({ unfit: `${JSON.stringify(text)} is no pattern of paths: ${why}.` });
  if (text.length > MAX_PATTERN) return unfit(`it has more than ${MAX_PATTERN} characters`);
  const plain = text.replace(SERVICE, "");
  if (/[?#]/.test(plain)) return unfit("it has a query");
  const normal = normalPath(plain);
  if (!normal) return unfit("no path that is passed on is like it");
  if (normal.path !== plain) return unfit(`paths are compared in their normal form, so write ${JSON.stringify(normal.path)}`);
  const parts = text.split(/(\*+)/);
  return {
    literals: parts.filter((_, at) => at % 2 === 0).map(undone),
    wide: parts.filter((_, at) => at % 2 === 1).map((stars) => stars.length > 1),
  };
}

/** `*` stands for what has no slash, `**` for anything. Its time is bounded by the product of the lengths, whatever the guest asks for. */
export function matchesPath({ literals, wide }: PathPattern, path: string): boolean {
  const [first = "", ...others] = literals;
  if (!path.startsWith(first)) return false;
  if (others.length === 0) return path === first;
  // where the pattern so far may end in the path
  let ends: ReadonlySet<number> = new Set([first.length]);
  for (const [n, literal] of others.entries()) {
    const last = n === others.length - 1;
    const next = new Set<number>();
    let open = false;
    for (let at = Math.min(...ends); at <= path.length; at++) {
      open ||= ends.has(at);
      const end = at + literal.length;
      if (open && (!last || end === path.length) && path.startsWith(literal, at)) next.add(end);
      if (path[at] === "/" && !wide[n]) open = false;
    }
    if (next.size === 0) return false;
    ends = next;
  }
  return true;
}

const parsedLists = new WeakMap<readonly string[], readonly PathPattern[]>();

/**
 * Whether a key's patterns let a normal path with its query pass, as those of a rule that allows would. One that cannot be used lets
 * none pass. A list is never changed in place.
 */
export function fitsPaths(patterns: readonly string[], path: string, query: string): boolean {
  const parsed = parsedLists.get(patterns) ?? patterns.map(parsePathPattern).filter((pattern) => "literals" in pattern);
  parsedLists.set(patterns, parsed);
  return formsOf(decidedPath(path, query)).every((form) => parsed.some((pattern) => matchesPath(pattern, form)));
}

/** The pattern that one form of a path fits and no other; of a very long one the paths that begin with it fit too. */
export function exactPattern(form: string): string {
  const text = form.replaceAll("*", "%2A");
  if (text.length <= MAX_PATTERN) return text;
  let cut = text.slice(0, MAX_PATTERN - 2).replace(/\?.*$/, "");
  // not within the escapes of one character
  while (cut.length > 1 && "unfit" in parsePathPattern(`${cut}**`)) cut = cut.slice(0, -1);
  return `${cut}**`;
}
