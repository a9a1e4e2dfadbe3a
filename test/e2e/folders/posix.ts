/** What POSIX promises of a filesystem, one property a row. Each is a step in an empty directory that holds the directory `x`; `links`: it needs hard links. */
export const posixProperties: readonly { readonly name: string; readonly links?: boolean; readonly steps: string }[] = [
  {
    name: "rename replaces a file at once, keeps its inode, and what was open stays readable",
    steps: `write("a", b"A"); write("b", b"B"); f = open("b", "rb"); i = os.stat("a").st_ino
os.rename("a", "b"); assert read("b") == b"A" and os.stat("b").st_ino == i and f.read() == b"B"
assert refused(lambda: os.stat("a")) == "ENOENT"; f.close()`,
  },
  {
    name: "rename of directories: over an empty one, not over a full one, not into itself, not over a file",
    steps: `os.makedirs("d/sub"); os.mkdir("empty"); os.rename("d", "empty"); assert os.listdir("empty") == ["sub"]
os.makedirs("full/x"); os.mkdir("e2"); assert refused(lambda: os.rename("e2", "full")) in ("ENOTEMPTY", "EEXIST")
assert refused(lambda: os.rename("empty", "empty/sub/in")) == "EINVAL"
write("f", b""); assert refused(lambda: os.rename("e2", "f")) == "ENOTDIR"; assert refused(lambda: os.rename("f", "e2")) == "EISDIR"`,
  },
  {
    name: "rename of a name to itself, and of one hard link over the other, changes nothing",
    links: true,
    steps: `write("a", b"A"); os.rename("a", "a"); os.link("a", "b"); os.rename("a", "b")
assert read("a") == b"A" and read("b") == b"A" and os.stat("a").st_ino == os.stat("b").st_ino`,
  },
  {
    name: "a hard link is the same file, counted; the last name ends it",
    links: true,
    steps: `write("a", b"A"); os.link("a", "b"); assert os.stat("a").st_nlink == 2 and os.path.samefile("a", "b")
write("b", b"changed"); assert read("a") == b"changed"; os.unlink("a"); assert read("b") == b"changed" and os.stat("b").st_nlink == 1
assert refused(lambda: os.link("x", "y")) in ("EPERM", "EACCES")`,
  },
  {
    name: "what is unlinked while open stays readable, writable and truncatable, and its name is free",
    steps: `f = open("a", "w+b"); f.write(b"one"); f.flush(); os.unlink("a"); assert refused(lambda: os.stat("a")) == "ENOENT"
write("a", b"another"); f.write(b"two"); f.flush(); f.seek(0); assert f.read() == b"onetwo"
f.truncate(2); assert os.fstat(f.fileno()).st_size == 2; f.close(); assert read("a") == b"another"`,
  },
  {
    name: "O_EXCL makes a file or fails, whichever of many processes comes first",
    steps: `wins = []
def attempt(n):
    try: os.close(os.open("once", os.O_CREAT | os.O_EXCL | os.O_WRONLY)); wins.append(n)
    except FileExistsError: pass
threads = [threading.Thread(target=attempt, args=(n,)) for n in range(16)]
for t in threads: t.start()
for t in threads: t.join()
assert len(wins) == 1, wins
os.symlink("nowhere", "l"); assert refused(lambda: os.open("l", os.O_CREAT | os.O_EXCL | os.O_WRONLY)) == "EEXIST"`,
  },
  {
    name: "truncate cuts and extends with zeros; a write behind the end leaves zeros between",
    steps: `write("a", b"abcdef"); os.truncate("a", 3); assert read("a") == b"abc"; os.truncate("a", 5); assert read("a") == b"abc\\0\\0"
f = open("a", "r+b"); f.seek(10); f.write(b"z"); f.close(); assert read("a") == b"abc" + b"\\0" * 7 + b"z"
assert refused(lambda: os.truncate("x", 0)) == "EISDIR"; write("a", b"short"); assert read("a") == b"short"`,
  },
  {
    name: "two that append lose nothing of each other",
    steps: `def append(mark):
    fd = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for n in range(60): os.write(fd, mark * 9 + b"\\n")
    os.close(fd)
threads = [threading.Thread(target=append, args=(m,)) for m in (b"a", b"b")]
for t in threads: t.start()
for t in threads: t.join()
lines = read("log").split(b"\\n"); assert sorted(lines) == [b""] + [b"a" * 9] * 60 + [b"b" * 9] * 60, len(lines)`,
  },
  {
    name: "a listing under change has each name that stays, once",
    // long names, as a listing of more than 32 KiB is more than one call
    steps: `names = {"stay%03d" % n + "x" * 220 for n in range(150)}
for n in names: write("x/" + n, b"")
listing = os.scandir("x"); seen = [next(listing).name]
for n in range(50): write("x/new%d" % n, b""); os.unlink("x/new%d" % n)
seen += [e.name for e in listing]
assert len(seen) == len(set(seen)) and names <= set(seen), (len(seen), len(names - set(seen)))
for n in names: os.unlink("x/" + n)
assert os.listdir("x") == []`,
  },
  {
    name: "a directory is removed when it is empty, and not before; a file is no directory",
    steps: `write("x/f", b""); assert refused(lambda: os.rmdir("x")) in ("ENOTEMPTY", "EEXIST"); assert refused(lambda: os.rmdir("x/f")) == "ENOTDIR"
assert refused(lambda: os.unlink("x")) in ("EISDIR", "EPERM"); os.unlink("x/f"); os.rmdir("x"); assert refused(lambda: os.listdir("x")) == "ENOENT"
assert refused(lambda: os.mkdir("no/where")) == "ENOENT"; write("f", b""); assert refused(lambda: os.mkdir("f/x")) == "ENOTDIR"; assert refused(lambda: os.mkdir("f")) == "EEXIST"; os.mkdir("x")`,
  },
  {
    name: "permissions are kept, also through the umask, and hold for the user",
    steps: `old = os.umask(0o027); fd = os.open("a", os.O_CREAT | os.O_WRONLY, 0o666); os.close(fd); os.mkdir("d", 0o777); os.umask(old)
assert stat.S_IMODE(os.stat("a").st_mode) == 0o640 and stat.S_IMODE(os.stat("d").st_mode) == 0o750
os.chmod("a", 0o755); assert stat.S_IMODE(os.stat("a").st_mode) == 0o755; os.chmod("a", 0o400); assert os.access("a", os.R_OK) and not os.access("a", os.W_OK)
assert refused(lambda: open("a", "wb")) == "EACCES"; os.chmod("a", 0o000); assert refused(lambda: open("a", "rb")) == "EACCES"; os.chmod("a", 0o600)`,
  },
  {
    name: "set-id and sticky bits are not kept, and asking for them is no error",
    steps: `write("a", b""); os.chmod("a", 0o6755); os.chmod("x", 0o1777)
assert stat.S_IMODE(os.stat("a").st_mode) == 0o755 and stat.S_IMODE(os.stat("x").st_mode) == 0o777`,
  },
  {
    name: "times are set to the nanosecond, and a write sets them anew",
    steps: `write("a", b"x"); os.utime("a", ns=(1_500_000_000_123_456_789, 1_400_000_000_987_654_321)); s = os.stat("a")
assert s.st_mtime_ns == 1_400_000_000_987_654_321, s.st_mtime_ns
write("a", b"y"); assert os.stat("a").st_mtime_ns > 1_700_000_000_000_000_000`,
  },
  {
    name: "a symbolic link is text: kept as it is, followed in the guest, not when it is asked about",
    steps: `write("t", b"T"); os.symlink("t", "l"); os.symlink("no/such", "d"); os.symlink("/" + "p" * 300, "long")
assert os.readlink("l") == "t" and read("l") == b"T" and os.readlink("long") == "/" + "p" * 300 and stat.S_ISLNK(os.lstat("d").st_mode)
assert refused(lambda: open("d")) == "ENOENT"; os.unlink("l"); assert read("t") == b"T"; os.symlink("loop", "loop"); assert refused(lambda: open("loop")) == "ELOOP"`,
  },
  {
    name: "each write is read back at any offset, at page borders and beyond one message",
    steps: `data = os.urandom(1_500_000); f = open("a", "w+b", buffering=0); at = 0
for size in (1, 4095, 4096, 4097, 65536, 524288, 524287, 1): at += f.write(data[at:at + size])
assert read("a") == data[:at]
for off, n in ((0, 1), (4095, 2), (524200, 200), (at - 3, 9)): assert os.pread(f.fileno(), n, off) == data[:at][off:off + n]
f.close()`,
  },
];
