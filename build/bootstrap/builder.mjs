// The builder root: a small Debian trixie below the cache, in which the kernel, the guest's root and all Go
// programs are made, so that the host's own release does not matter. Inside it the repository is at /repo and
// the cache at /cache, whatever their places on the host: paths that end up in binaries are everywhere the same.

import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { acquireOptions, debianArchives } from "./apt.mjs";
import { cacheRoot, repo } from "./cache.mjs";
import { exec, probe } from "./exec.mjs";
import { arch, builderPackages, trixie } from "./packages.mjs";
import { Problem } from "./problem.mjs";

export const isRoot = process.getuid() === 0;
const asNamespaceRoot = isRoot ? [] : ["--map-root-user", "--map-auto"];

/** mmdebstrap's arguments that both roots share. */
export async function mmdebstrap({ packages, target, format, ctx, extra = [], backports = false }) {
  const { main, security } = await debianArchives();
  const suites = [];
  if (main) {
    suites.push(`deb ${main} ${trixie} main`, `deb ${main} ${trixie}-updates main`);
    if (security) suites.push(`deb ${security} ${trixie}-security main`);
    if (backports) suites.push(`deb ${main} ${trixie}-backports main`);
  }
  const withoutMirror =
    main || !backports
      ? []
      : // No Debian archive in the host's sources: mmdebstrap chose one, and backports are beside it.
        [
          '--setup-hook=sed -n \'s/^deb \\(.*\\) trixie main$/deb \\1 trixie-backports main/p\' "$1/etc/apt/sources.list" >> "$1/etc/apt/sources.list"',
        ];
  const argv = [
    "mmdebstrap",
    "--variant=minbase",
    "--mode=root", // of the machine, or of the user namespace below
    `--format=${format}`,
    `--include=${packages.join(",")}`,
    '--aptopt=APT::Install-Recommends "false"',
    '--aptopt=Acquire::Languages "none"',
    ...(await acquireOptions()).map((line) => `--aptopt=${line.slice(0, -1)}`),
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-include=/usr/share/doc/*/copyright", // Debian's licences ask for it
    "--dpkgopt=force-unsafe-io", // a half-made root is thrown away anyway
    ...withoutMirror,
    ...extra,
    trixie,
    target,
    ...suites,
  ];
  // A process namespace of its own ends apt and dpkg with mmdebstrap, also when that is killed. Without root the user
  // becomes root of a user namespace: mmdebstrap's own unshare mode makes a sub-uid root instead, which may not
  // enter a home directory of mode 0700.
  const contained = ["unshare", ...asNamespaceRoot, "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", ...argv];
  await exec(contained, {
    // mmdebstrap unpacks below TMPDIR when it makes an archive; /tmp may be a small memory disk.
    env: { ...process.env, TMPDIR: await temporaryFolder(ctx.step), ...ctx.env },
    log: ctx.log,
    onLine: (line) => ctx.detail(line.replace(/^I: /, "").slice(0, 80)),
    code: "build.debian-root",
    message: "mmdebstrap could not make a Debian root.",
    next: isRoot
      ? ["Check the machine's network and its apt sources, then run the same command again."]
      : [
          "Check the machine's network and its apt sources, then run the same command again.",
          "Without root it needs user namespaces: `sysctl kernel.unprivileged_userns_clone` must not be 0, and /etc/subuid must list you.",
        ],
  });
}

/** Emptied first: the step's lock is held, so what lies there is of a build that was killed. */
async function temporaryFolder(step) {
  const folder = join(cacheRoot, "tmp", step);
  if (existsSync(folder)) await exec(isRoot ? ["rm", "-rf", folder] : ["unshare", ...asNamespaceRoot, "rm", "-rf", folder]);
  mkdirSync(folder, { recursive: true });
  return folder;
}

export const builderStep = {
  name: "builder",
  title: "making the Debian trixie root that everything is built in",
  deps: ["host"],
  seconds: 45,
  inputs: () => ["2", arch.debian, ...builderPackages],
  async run(ctx) {
    const root = join(ctx.out, "root");
    await mmdebstrap({
      packages: builderPackages,
      target: root,
      format: "directory",
      ctx,
      backports: true,
      extra: ['--customize-hook=mkdir -p "$1/repo" "$1/cache"'],
    });
    // biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg-query's own placeholders
    const versions = (await exec(["dpkg-query", `--admindir=${root}/var/lib/dpkg`, "-W", "-f", "${Package} ${Version}\n"])).stdout;
    writeFileSync(join(ctx.out, "packages.txt"), versions);
  },
};

/**
 * Runs a command in the builder root; resolves like exec. The root is read-only there, /tmp is memory, /repo and
 * /cache are the host's; nothing else of the host is visible. Without root the same is done in a user namespace
 * whose root is the calling user.
 */
export function inBuilder(root, argv, { env = {}, cwd = "/repo", readOnlyRepo = false, ...options } = {}) {
  const setUp = [
    "set -e",
    "umask 022", // the caller's own would end up in modes: mkfs.erofs gives it to the inode of packed tails
    `mount --bind ${quote(root)} ${quote(root)}`,
    `cd ${quote(root)}`,
    `mount --bind ${quote(repo)} repo`,
    readOnlyRepo ? "mount -o remount,bind,ro repo 2>/dev/null || true" : "",
    `mount --bind ${quote(cacheRoot)} cache`,
    "mount -t proc proc proc 2>/dev/null || mount --rbind /proc proc",
    "mount --rbind /dev dev",
    "mount -t tmpfs -o mode=1777 tmpfs tmp",
    `mount -o remount,bind,ro ${quote(root)} 2>/dev/null || true`,
    // Not chroot: in one, the kernel refuses new user namespaces, and tests of sandboxes need them.
    "pivot_root . . && umount -l .",
    // -i: the host's environment must not reach a build
    `exec env -i ${Object.entries({ ...baseEnv, ...env })
      .map(([name, value]) => quote(`${name}=${value}`))
      .join(" ")} sh -c 'cd "$1" && shift && exec "$@"' sh ${quote(cwd)} ${argv.map(quote).join(" ")}`,
  ].join("\n");
  return exec(["unshare", ...asNamespaceRoot, "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", setUp], options);
}

const baseEnv = { PATH: "/usr/lib/go-1.27/bin:/usr/sbin:/usr/bin:/sbin:/bin", HOME: "/tmp", LC_ALL: "C.UTF-8", TZ: "UTC" };

export const quote = (word) => `'${String(word).replaceAll("'", `'\\''`)}'`;

/** Where the builder sees a path of the repository or the cache. */
export function seenInside(path) {
  for (const [outside, inside] of [
    [cacheRoot, "/cache"],
    [repo, "/repo"],
  ]) {
    const rest = relative(outside, path);
    if (!rest.startsWith("..")) return rest ? `${inside}/${rest}` : inside;
  }
  throw new Error(`${path} is neither in the repository nor in the cache`);
}

/** The builder's version of a package, for the inputs of steps whose output depends on it. */
export function builderVersions(builderOutput, names) {
  const versions = new Map(
    readFileSync(join(builderOutput, "packages.txt"), "utf8")
      .split("\n")
      .map((line) => line.split(" ")),
  );
  return names.map((name) => `${name} ${versions.get(name)}`);
}

/** User namespaces are how the build works without root; saying so early beats a failure deep in a step. */
export async function checkNamespaces() {
  if (isRoot) return;
  if ((await probe(["unshare", "--map-root-user", "--map-auto", "--mount", "true"])) !== null) return;
  throw new Problem({
    code: "build.no-user-namespaces",
    message: "This user cannot make user namespaces, which the build needs when it is not root.",
    next: [
      "Allow them: sudo sysctl -w kernel.unprivileged_userns_clone=1, and give yourself sub-ids: sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER",
      "Or run the same command as root.",
    ],
  });
}
