/**
 * Folders that are never given to a task, whatever its user says: those that hold keys, the system or Cloche's own data, those that
 * lie in one of them, and those that contain one. Compared by the identity of each directory on the way, so that no other spelling,
 * link or bind mount of a place is another place. What is not in the list may still be a secret: the list is a rail, the picked
 * folder is the wall.
 */
import { realpath, stat } from "node:fs/promises";
import { homedir, userInfo } from "node:os";
import { join } from "node:path";
import { ancestry, isRemote, type Mount, mountOf, type PlaceId, placeId, upwards } from "./places.ts";

interface Place {
  readonly path: string;
  /** follows "it is", "it lies in" or "it contains" */
  readonly what: string;
  /** folders below it are refused, too */
  readonly deep: boolean;
  /** below it, this part is not meant */
  readonly except?: string;
}

const KEYS = "keys and tokens of this computer's programs";
const BROWSER = "a browser's profile, with its passwords and sessions";
const KEYRING = "a keychain";
const MAIL = "a mail program's profile";
const AI_TOOL = "an AI tool's sign-in";

/** Below the home folder; on Linux, macOS and Windows. */
const IN_HOME: readonly (readonly [string, string])[] = [
  ...[".ssh", ".gnupg", ".aws", ".azure", ".kube", ".docker", ".oci", ".config/gcloud", ".config/gh", ".config/hub", ".config/op"].map(
    (path) => [path, KEYS] as const,
  ),
  ...[".config/doctl", ".config/containers", ".terraform.d", ".cargo/credentials.toml", ".gem", ".pki", ".vault-token"].map(
    (path) => [path, KEYS] as const,
  ),
  ...[
    ".password-store",
    ".local/share/keyrings",
    ".local/share/kwalletd",
    ".config/keepassxc",
    ".config/Bitwarden",
    ".config/1Password",
  ].map((path) => [path, KEYRING] as const),
  ...[
    "Library/Keychains",
    "AppData/Roaming/Microsoft/Credentials",
    "AppData/Local/Microsoft/Credentials",
    "AppData/Roaming/Microsoft/Protect",
  ].map((path) => [path, KEYRING] as const),
  ...[".mozilla", ".config/google-chrome", ".config/chromium", ".config/BraveSoftware", ".config/microsoft-edge", ".config/vivaldi"].map(
    (path) => [path, BROWSER] as const,
  ),
  ...[".config/opera", ".librewolf", ".var/app", "snap/firefox", "snap/chromium"].map((path) => [path, BROWSER] as const),
  ...["Google/Chrome", "Chromium", "Firefox", "BraveSoftware", "Microsoft Edge"].map(
    (path) => [`Library/Application Support/${path}`, BROWSER] as const,
  ),
  ...["Local/Google/Chrome", "Local/Microsoft/Edge", "Local/BraveSoftware", "Roaming/Mozilla"].map(
    (path) => [`AppData/${path}`, BROWSER] as const,
  ),
  ...["Library/Cookies", "Library/Safari"].map((path) => [path, BROWSER] as const),
  ...[".thunderbird", "Library/Mail"].map((path) => [path, MAIL] as const),
  ...[".claude", ".codex", ".gemini", ".config/github-copilot"].map((path) => [path, AI_TOOL] as const),
];

const SYSTEM: readonly Place[] = [
  ...["/etc", "/proc", "/sys", "/dev", "/boot", "/var/lib", "/private/etc", "/System", "/Library"].map((path) => ({
    path,
    what: "the system's own files",
    deep: true,
  })),
  { path: "/run", what: "the system's own files", deep: true, except: "/run/media" },
  ...[
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib64",
    "/var",
    "/opt",
    "/srv",
    "/mnt",
    "/media",
    "/run/media",
    "/tmp",
    "/home",
    "/root",
    "/Users",
    "/Volumes",
    "/Applications",
  ].map((path) => ({ path, what: "one of the system's own folders", deep: false })),
];

/** Where Cloche keeps what tasks must never reach: its data, its sockets, its programs. */
export interface OwnPlaces {
  readonly data: readonly string[];
  readonly programs: readonly string[];
}

export function knownPlaces(own: OwnPlaces, homes: readonly string[] = [homedir(), userInfo().homedir]): Place[] {
  return [
    ...[...new Set(homes)].flatMap((home): Place[] => [
      { path: home, what: "your home folder", deep: false },
      ...IN_HOME.map(([path, what]) => ({ path: join(home, path), what, deep: true })),
    ]),
    ...own.data.map((path) => ({ path, what: "Cloche's own data", deep: true })),
    ...own.programs.map((path) => ({ path, what: "Cloche's own programs", deep: true })),
    ...SYSTEM,
  ];
}

/** Why the folder at a resolved path is never given to a task; undefined when it may be. Nothing in the folder is read. */
export async function whySensitive(path: Buffer, places: readonly Place[], mounts: readonly Mount[]): Promise<string | undefined> {
  const found = await stat(path).catch(() => undefined);
  const chain = await ancestry(path);
  const [folder] = chain;
  if (folder === undefined || !found?.isDirectory()) return undefined; // not there, or no folder: its share server tells
  if (path.length === 1) return "it is the root of the filesystem";
  const mount = mountOf(path, mounts);
  if (mount?.point.equals(path) && !isRemote(mount) && (mount.root === "/" || mount.type === "btrfs")) return "it is the root of a drive";
  const ids = new Map<string, Promise<PlaceId | undefined>>();
  const idOf = (of: Buffer) => {
    const key = of.toString("latin1");
    const known = ids.get(key) ?? placeId(of);
    ids.set(key, known);
    return known;
  };
  /** From the top down, and never further than the folder itself: what lies in it is not looked at before its user has agreed. */
  const contains = async (place: string): Promise<boolean> => {
    for (const above of upwards(Buffer.from(place)).slice(1).reverse()) {
      const id = await idOf(above);
      if (id === undefined) return false;
      if (id === folder) return true;
    }
    return false;
  };
  for (const { path: at, what, deep, except } of places) {
    if (await contains(at)) return `it contains ${what}`;
    const id = await idOf(Buffer.from(at));
    if (id === undefined) continue;
    if (id === folder) return `it is ${what}`;
    const excepted = except === undefined ? undefined : await idOf(Buffer.from(except));
    if (deep && chain.includes(id) && !(excepted !== undefined && chain.includes(excepted))) return `it lies in ${what}`;
    const real = await realpath(at).catch(() => at); // a place that cannot be resolved was compared as far as it can be
    if (real !== at && (await contains(real))) return `it contains ${what}`;
  }
  return undefined;
}
