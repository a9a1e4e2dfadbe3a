// Package child runs the programs that the helper needs (QEMU, vhost-device-vsock) so that none of them can outlive
// it and none of them holds more than it needs.
//
// Every child is started from an operating system thread of its own, which stays for as long as the child lives:
//
//	goroutine locked to its thread
//	   no_new_privs, capabilities dropped, Landlock   (bind this thread and what it starts, not the helper)
//	   fork + exec with PDEATHSIG = KILL              (Linux ties that signal to the parent *thread*)
//	   waits for the child, then ends with its thread
//
// That one rule gives both: a death signal that fires only when the helper dies, and a confinement that needs no
// launcher program in between. The Go runtime never starts threads from a locked one, so the narrowed rights stay
// where they are.
//
// A child gets an empty environment but LC_ALL, /dev/null as stdin, a pipe for its messages, the descriptors it was
// given from 3 upwards and nothing else; a session of its own, so that the terminal's Ctrl-C is the keeper's business.
package child
