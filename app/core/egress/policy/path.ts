/**
 * Paths of requests. A path that a server could read as another one than is decided is refused: dot segments in every spelling,
 * backslashes, control characters, bytes that are not UTF-8. What is left is brought into one form, and that form is what is decided and
 * sent; where servers differ in how they read it, it is decided in all those forms.
 */

export interface RequestPath {
  /** with a leading slash, without a query */
  readonly path: string;
  /** with its question mark, or empty */
  readonly query: string;
  /**
   * what rules are matched against: the path, and for git's `info/refs` the service that its query asks for, which decides whether
   * the request reads or writes
   */
  readonly decided: string;
}

/** Longest path that is decided, in characters. */
const MAX_PATH = 2048;
const MAX_TARGET = 32_768;

/** The normal form of a request's target in origin form (RFC 9112, section 3.2.1). */
export function normalPath(target: string): RequestPath | undefined {
  if (target.length > MAX_TARGET || !/^\/[\x21-\x7e]*$/.test(target) || target.includes("#")) return undefined;
  const at = target.indexOf("?");
  const raw = at === -1 ? target : target.slice(0, at);
  const query = at === -1 ? "" : target.slice(at);
  if (/["<>\\^`{|}]/.test(raw)) return undefined;
  const path = normalise(raw);
  if (path === undefined || path.length > MAX_PATH) return undefined;
  if (formsOf(path).some((form) => form.split("/").some((segment) => segment === "." || segment === ".."))) return undefined;
  const decided = path.endsWith("/info/refs") ? `${path}${query}` : path;
  return decided.length > MAX_PATH ? undefined : { path, query, decided };
}

/** Encoded characters that need no encoding stand for themselves, the others are in capitals (RFC 3986, section 6.2.2). */
function normalise(raw: string): string | undefined {
  if (/%(?![0-9A-Fa-f]{2})/.test(raw)) return undefined;
  try {
    decodeURIComponent(raw);
  } catch {
    return undefined; // not UTF-8
  }
  let refused = false;
  const path = raw.replace(/%[0-9A-Fa-f]{2}/g, (code) => {
    const byte = Number.parseInt(code.slice(1), 16);
    if (byte < 0x20 || byte === 0x7f || byte === 0x5c) refused = true;
    const char = String.fromCharCode(byte);
    return /[A-Za-z0-9._~-]/.test(char) ? char : code.toUpperCase();
  });
  return refused ? undefined : path;
}

/**
 * The forms in which a server may take a path: as it is, with encoded slashes decoded (registries have such names), and with repeated
 * slashes as one.
 */
export function formsOf(path: string): readonly string[] {
  if (!path.includes("//") && !path.includes("%2F")) return [path];
  const decoded = path.replaceAll("%2F", "/");
  return [...new Set([path, decoded, decoded.replace(/\/{2,}/g, "/")])];
}

const compiled = new Map<string, RegExp>();
const MAX_COMPILED = 4096;

/** `*` stands for what has no slash, `**` for anything; everything else for itself. */
export function matchesPath(pattern: string, path: string): boolean {
  let found = compiled.get(pattern);
  if (!found) {
    const source = pattern
      .split(/(\*+)/)
      .map((part) => (part === "*" ? "[^/]*" : /^\*+$/.test(part) ? ".*" : part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")));
    found = new RegExp(`^${source.join("")}$`);
    if (compiled.size >= MAX_COMPILED) compiled.clear();
    compiled.set(pattern, found);
  }
  return found.test(path);
}
