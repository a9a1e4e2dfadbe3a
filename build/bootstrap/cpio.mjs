// Writes a cpio archive in the `newc` form that the kernel unpacks as its initramfs. Owner 0, times 0, order as
// given: the same entries give the same bytes, and device nodes need no root here.

/**
 * @param {Array<{name: string, mode: number, data?: Buffer, device?: [number, number]}>} entries
 * @returns {Buffer}
 */
export function cpio(entries) {
  const parts = [];
  let length = 0;
  const push = (bytes) => {
    parts.push(bytes);
    length += bytes.length;
  };
  const align = () => push(Buffer.alloc((4 - (length % 4)) % 4));
  const write = ({ name, mode, data = Buffer.alloc(0), device = [0, 0] }, inode) => {
    const fields = [inode, mode, 0, 0, 1, 0, data.length, 0, 0, device[0], device[1], Buffer.byteLength(name) + 1, 0];
    push(Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}${name}\0`, "latin1"));
    align();
    push(data);
    align();
  };
  for (const [index, entry] of entries.entries()) write(entry, index + 1);
  write({ name: "TRAILER!!!", mode: 0 }, 0);
  return Buffer.concat(parts);
}

export const directory = (name) => ({ name, mode: 0o040755 });
export const program = (name, data) => ({ name, mode: 0o100755, data });
export const link = (name, target) => ({ name, mode: 0o120777, data: Buffer.from(target) });
export const regular = (name, mode, data) => ({ name, mode: 0o100000 | mode, data });
export const characterDevice = (name, major, minor) => ({ name, mode: 0o020600, device: [major, minor] });
