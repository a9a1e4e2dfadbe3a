// All that asks apt: what the host has, the sources it is set up with, and packages of other releases than the host's.

import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline/promises";
import { exec, probe } from "./exec.mjs";
import { arch, hostPackages, trixie, vsockDevice } from "./packages.mjs";
import { Problem } from "./problem.mjs";

export async function missingHostPackages(command) {
  const wanted = hostPackages[command];
  // biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg-query's own placeholders
  const answer = (await probe(["dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Package}\n", ...wanted], { okStatus: [0, 1] })) ?? "";
  const installed = new Set(
    answer
      .split("\n")
      .filter((line) => line.startsWith("ii "))
      .map((line) => line.trim().split(/\s+/)[1]),
  );
  return wanted.filter((name) => !installed.has(name));
}

/**
 * Installs host packages. Root simply does it. A person at a terminal sees the exact command and decides;
 * without a terminal sudo is tried without a password, and a refusal names the command.
 */
export async function installHostPackages(names, ctx) {
  const install = ["apt-get", "install", "-y", "--no-install-recommends", ...names];
  const byHand = `sudo ${install.join(" ")}`;
  const quiet = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  if (ctx.isRoot) {
    await refreshIfNeeded(names, [], ctx, quiet);
    await exec(install, installOptions(byHand, ctx, quiet));
    return;
  }
  if (process.stdin.isTTY && process.stderr.isTTY) {
    const ask = createInterface({ input: process.stdin, output: process.stderr });
    const answer = await ask.question(
      `\nCloche needs Debian packages that are not installed. This command installs them:\n\n  ${byHand}\n\nRun it now? [y/N] `,
    );
    ask.close();
    if (!/^y(es)?$/i.test(answer.trim())) throw needsPackages(names, byHand);
    await exec(["sudo", ...install], { stdio: "inherit", ...needsText(names, byHand) });
    return;
  }
  if ((await probe(["sudo", "-n", "true"])) === null) throw needsPackages(names, byHand);
  await refreshIfNeeded(names, ["sudo", "-n"], ctx, quiet);
  await exec(["sudo", "-n", ...install], installOptions(byHand, ctx, quiet));
}

const needsText = (names, byHand) => ({
  code: "build.packages-missing",
  message: `Debian packages are missing: ${names.join(", ")}.`,
  next: [`Install them: ${byHand}`, "Then run the same command again."],
});
const needsPackages = (names, byHand) => new Problem(needsText(names, byHand));
const installOptions = (byHand, ctx, env) => ({
  env,
  log: ctx.log,
  onLine: (line) => ctx.detail(line.slice(0, 80)),
  code: "build.packages-not-installed",
  message: "apt-get could not install Debian packages.",
  next: ["If the package lists are old: sudo apt-get update", `Then: ${byHand}`],
});

/** A fresh machine has no package lists at all; one with old lists is left alone until an install fails. */
async function refreshIfNeeded(names, prefix, ctx, env) {
  const simulated = await probe(["apt-get", "install", "-s", "--no-install-recommends", ...names]);
  const lists = await probe(["apt-get", "indextargets", "--format", "$(FILENAME)", "Created-By: Packages"]);
  if (simulated !== null && lists) return;
  await exec([...prefix, "apt-get", "update"], {
    env,
    log: ctx.log,
    next: ["Check the machine's network and its apt sources: sudo apt-get update"],
  });
}

/**
 * The Debian archives the host is set up with. A host that is no Debian has none; then mmdebstrap's own default
 * is used.
 *
 * @returns {Promise<{main: string | null, security: string | null}>}
 */
export async function debianArchives() {
  const text =
    (await probe([
      "apt-get",
      "indextargets",
      "--no-release-info",
      "--format",
      "$(REPO_URI)\t$(ORIGIN)\t$(LABEL)",
      "Created-By: Packages",
    ])) ?? "";
  const rows = [...new Set(text.split("\n"))].map((line) => line.split("\t")).filter((row) => row[1] === "Debian");
  if (rows.length === 0) return fromSources();
  return {
    main: rows.find((row) => row[2] === "Debian")?.[0] ?? null,
    security: rows.find((row) => row[2] === "Debian-Security")?.[0] ?? null,
  };
}

/** Before the first `apt-get update` indextargets knows addresses but neither origin nor label. */
async function fromSources() {
  const text =
    (await probe([
      "apt-get",
      "indextargets",
      "--no-release-info",
      "--format",
      "$(REPO_URI)\t$(RELEASE)\t$(SIGNED_BY)",
      "Created-By: Packages",
    ])) ?? "";
  const rows = text
    .split("\n")
    .map((line) => line.split("\t"))
    .filter((row) => row.length === 3 && /debian/.test(row[0]));
  return {
    main: rows.find((row) => /^(bookworm|trixie|forky|sid|stable|testing|unstable)$/.test(row[1]))?.[0] ?? null,
    security: rows.find((row) => /^(bookworm|trixie|stable)-security$/.test(row[1]))?.[0] ?? null,
  };
}

/** The host's way of reaching archives (proxies, retries, clocks) for apt processes with a configuration of their own. */
export async function acquireOptions() {
  const dump = (await probe(["apt-config", "dump", "--format", '%F "%v";%n', "Acquire"])) ?? "";
  return dump
    .split("\n")
    .filter((line) => /^Acquire::(http|https|ftp|Retries|Check-Valid-Until|Check-Date|ForceIPv4|ForceIPv6)\b.* "[^"]+";$/i.test(line));
}

/**
 * An apt with a configuration, lists and sources of its own in `home`, so that the host's stay as they are. It checks the archive's
 * signature and each package's hash as always.
 *
 * @param sources lines of a sources.list without `deb` and the key
 * @returns what `exec` is to run apt with, in the step's output
 */
async function ownApt(ctx, home, sources) {
  for (const folder of ["lists/partial", "archives/partial", "empty.d"]) mkdirSync(join(home, folder), { recursive: true });
  const key = "signed-by=/usr/share/keyrings/debian-archive-keyring.gpg";
  writeFileSync(join(home, "sources.list"), sources.map((each) => `deb [${key}] ${each}\n`).join(""));
  writeFileSync(join(home, "status"), "");
  writeFileSync(
    join(home, "apt.conf"),
    [
      `Dir::State "${home}";`,
      `Dir::State::status "${home}/status";`,
      `Dir::Cache "${home}";`,
      `Dir::Etc::sourcelist "${home}/sources.list";`,
      `Dir::Etc::sourceparts "${home}/empty.d";`,
      `Dir::Etc::preferencesparts "${home}/empty.d";`,
      `APT::Architecture "${arch.debian}";`,
      `APT::Sandbox::User "";`, // the download directory is ours alone; apt's own user could not write it
      `Acquire::Languages "none";`,
      ...(await acquireOptions()),
      "",
    ].join("\n"),
  );
  const env = { ...process.env, APT_CONFIG: join(home, "apt.conf") };
  const options = { env, log: ctx.log, cwd: ctx.out, next: ["Check the machine's network, then run the same command again."] };
  ctx.detail("package lists");
  await exec(["apt-get", "update", "-q"], options);
  return options;
}

/** Downloads one package of a younger release and unpacks it. */
export async function unpackVsockDevice(ctx) {
  const { main } = await debianArchives();
  if (!main) {
    throw new Problem({
      code: "build.no-debian-archive",
      message: "The machine's apt sources name no Debian archive, so vhost-device-vsock cannot be fetched.",
      next: ["Install vhost-device-vsock 0.3 yourself so that it is found on PATH, then run the same command again."],
    });
  }
  const home = join(ctx.out, "apt");
  const options = await ownApt(ctx, home, [`${main} ${vsockDevice.suite} main`]);
  const versions = (await exec(["apt-cache", "madison", vsockDevice.package], options)).stdout
    .split("\n")
    .map((line) => line.split("|")[1]?.trim())
    .filter(Boolean);
  const fits = [];
  for (const version of versions) {
    if ((await compare(version, "ge", vsockDevice.atLeast)) && (await compare(version, "lt", vsockDevice.below))) fits.push(version);
  }
  if (fits.length === 0) {
    throw new Problem({
      code: "build.vsock-device-version",
      message: `Debian ${vsockDevice.suite} has vhost-device-vsock ${versions.join(", ") || "in no version"}, and Cloche was tested with ${vsockDevice.atLeast} up to ${vsockDevice.below}.`,
      next: ["Test the newer version, then widen the range in build/bootstrap/packages.mjs."],
    });
  }
  ctx.detail(`version ${fits[0]}`);
  await exec(["apt-get", "download", "-q", `${vsockDevice.package}=${fits[0]}`], options);
  const deb = readdirSync(ctx.out).find((name) => name.endsWith(".deb"));
  await exec(["dpkg-deb", "-x", join(ctx.out, deb), ctx.out], { log: ctx.log });
  await exec(["rm", "-rf", home, join(ctx.out, deb)]);
}

/** Downloads packages of the guest's own release into the step's output, and nothing that they depend on. */
export async function downloadGuestPackages(ctx, names) {
  const { main, security } = await debianArchives();
  if (!main) {
    throw new Problem({
      code: "build.no-debian-archive",
      message: "The machine's apt sources name no Debian archive, so packages of the guest's release cannot be fetched.",
      next: ["Add a Debian archive to the machine's apt sources, then run the same command again."],
    });
  }
  const home = join(ctx.out, "apt");
  const sources = [`${main} ${trixie} main`, ...(security ? [`${security} ${trixie}-security main`] : [])];
  const options = await ownApt(ctx, home, sources);
  ctx.detail("packages");
  await exec(["apt-get", "download", "-q", ...names], options);
  await exec(["rm", "-rf", home]);
}

async function compare(version, relation, other) {
  return (await exec(["dpkg", "--compare-versions", version, relation, other], { okStatus: [0, 1] })).status === 0;
}
