#!/bin/sh
# Runs on the host beside the finished root ($1) before it is packed: users, permissions, and the removal of all
# that is of this build or of this machine. Two builds from the same packages must give the same bytes.
set -eu
root=$1

# The user of the machine. A password of `*` can never match and, unlike `!`, does not lock the account for sshd.
chroot "$root" useradd --uid 1000 --user-group --create-home --shell /bin/bash --groups sudo,staff --password '*' --comment '' you
chroot "$root" passwd --quiet --delete root && chroot "$root" usermod --password '*' root
chmod 0440 "$root/etc/sudoers.d/cloche-you" "$root/etc/sudoers.d/cloche-environment"
chmod 0755 "$root/usr/lib/cloche/git-credential-cloche"
chmod 0755 "$root/home/you"
rm -f "$root/etc/passwd-" "$root/etc/group-" "$root/etc/shadow-" "$root/etc/gshadow-" "$root/etc/subuid-" "$root/etc/subgid-"

# Debian's old custom: /usr/local is the administrators' own. `npm install -g` lands there without sudo.
mkdir -p "$root/usr/local/lib/node_modules"
chroot "$root" find /usr/local -type d -exec chgrp staff {} + -exec chmod 2775 {} +

# npm is its own package; Debian's links come with Debian's package only.
ln -sf ../lib/node_modules/npm/bin/npm-cli.js "$root/usr/bin/npm"
ln -sf ../lib/node_modules/npm/bin/npx-cli.js "$root/usr/bin/npx"
chmod 0755 "$root/usr/lib/node_modules/npm/bin/npm-cli.js" "$root/usr/lib/node_modules/npm/bin/npx-cli.js"
rm -rf "$root/usr/lib/node_modules/npm/man" "$root/usr/lib/node_modules/npm/docs" "$root/usr/lib/node_modules/npm/html"

# The task's own certificate authority: an empty file that the agent fills at each start (vm-image/agent/trust.go), in the places where
# update-ca-certificates would have put it. The link's name is OpenSSL's hash of the authority's subject.
mkdir -p "$root/etc/ssl/cloche"
: > "$root/etc/ssl/cloche/ca.pem"
ln -s /etc/ssl/cloche/ca.pem "$root/usr/local/share/ca-certificates/cloche.crt"
ln -s /usr/local/share/ca-certificates/cloche.crt "$root/etc/ssl/certs/cloche.pem"
ln -s cloche.pem "$root/etc/ssl/certs/3a09102a.0"
for browser in chrome chrome_for_testing; do
  mkdir -p "$root/etc/opt/$browser"
  ln -s /etc/chromium/policies "$root/etc/opt/$browser/policies"
done

# NSS has the world's authorities in a library of its own. p11-kit's, made to stand in its place, reads the system's bundle and with it the
# task's. Diverted, so that an upgrade of NSS leaves it there, and to where ldconfig does not see it, which would link to it again.
for library in "$root"/usr/lib/*/libnssckbi.so; do
  name=${library#"$root"}
  chroot "$root" dpkg-divert --quiet --local --rename --divert "${name%/*}/pkcs11/nss-builtins.so" --add "$name"
  ln -s pkcs11/p11-kit-trust.so "$library"
done

# Manuals are left out, but not their folders: packages with alternatives, Java's among them, fail to install without.
for section in 1 2 3 4 5 6 7 8 9; do mkdir -p "$root/usr/share/man/man$section"; done

# Debian calls fd `fdfind`; everybody else does not.
ln -sf /usr/bin/fdfind "$root/usr/local/bin/fd"

# Byte code that is checked against its source by hash at build time and never again: by default Python compares
# times, which the image's fixed times would break, and every start would compile the library anew.
chroot "$root" sh -c '
  find /usr/lib/python3 /usr/lib/python3.* -name __pycache__ -type d -prune -exec rm -rf {} +
  python3 -m compileall -q --invalidation-mode unchecked-hash /usr/lib/python3 /usr/lib/python3.* >/dev/null || true'

# Keys and ids belong to a task, not to an image. The agent brings host keys, host name and machine id.
rm -f "$root"/etc/ssh/ssh_host_* "$root/etc/hostname" "$root/etc/resolv.conf" "$root/var/lib/dbus/machine-id"
: > "$root/etc/machine-id"

# What a build leaves behind.
rm -f "$root/etc/apt/apt.conf.d/99mmdebstrap" "$root/etc/dpkg/dpkg.cfg.d/99mmdebstrap"
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin "$root"/var/cache/apt/archives/*.deb \
  "$root"/var/cache/debconf/*-old "$root"/var/lib/dpkg/*-old "$root"/var/cache/ldconfig/aux-cache \
  "$root"/var/log/* "$root"/var/tmp/* "$root"/run/* "$root"/root/.cache \
  "$root"/usr/share/info/* "$root"/usr/share/lintian "$root"/usr/share/linda "$root"/usr/share/bug
mkdir -p "$root/var/lib/apt/lists/partial"
# /tmp holds the apt configuration that mmdebstrap itself still needs: without it, its last `apt-get update` would
# run on the host and empty the host's package lists.
find "$root/tmp" -mindepth 1 -not -name 'mmdebstrap.apt.conf.*' -delete
