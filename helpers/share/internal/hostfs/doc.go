// Package hostfs serves a real folder of the host, and is the only place that makes system calls on it.
//
// A handle is a descriptor, never a path. The folder itself is opened once; every walk opens one component from its
// parent's descriptor with O_PATH|O_NOFOLLOW, and with openat2's RESOLVE_BENEATH|NO_SYMLINKS|NO_XDEV where the kernel
// has it. So no link is ever followed on the host, no walk leaves the folder or its filesystem, and swapping a
// directory for a link between two calls changes nothing for a handle that is already held.
//
// An O_PATH descriptor opens nothing: no FIFO waits, no device acts. fstat on it tells what the object is, and since
// the descriptor is bound to the object, that answer cannot change before use. To read or write, the descriptor is
// opened again by its number in a directory handle of /proc/self/fd, taken before the process was confined: exactly
// that object, whatever its name is by now. Only regular files and directories are opened so.
//
// What the guest may not have: set-id and sticky bits, device nodes, FIFOs, sockets, other owners, other xattrs than
// user.*. FIFOs, sockets and devices that are already there can be seen and removed, but not opened.
package hostfs
