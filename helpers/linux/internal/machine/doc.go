// Package machine owns one machine: its two processes, its console and its streams.
//
//	idle --Start--> starting --(QEMU told to go)--> running <--Pause/Resume--> paused
//	                   |                               |                         |
//	                   +-----------(a step fails)      +---- a process ends -----+
//	                   |           everything undone   |     or Terminate        |
//	                   v                               v                         v
//	                  idle                           exited (once, with its reason)
//
// A failed Start leaves nothing and may be tried again. Terminate fits every state: in idle it makes the machine exited
// (nothing can be started any more), in starting it makes Start fail. "exited" is told exactly once after a successful
// Start, and only when the processes, the sockets and the scratch files are gone.
//
// Who ends whom: the watcher awaits either process and kills the other; everybody else only kills QEMU and waits for the
// watcher. So there is one place that cleans up.
package machine
