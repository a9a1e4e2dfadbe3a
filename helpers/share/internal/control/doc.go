// Package control is the share server's side towards the keeper: JSON-RPC on stdio, and the processes.
//
//	keeper ──stdio──▶ front      hello, identify; at `serve` opens the folder, compares, binds the socket and starts
//	                    │
//	                  child      confine.Enter, then execs itself into
//	                    ▼
//	keeper ──stdio──▶ serving    sealed; answers that same `serve` and from then on everything
//
// The front reads no byte beyond the line of `serve`, and hands that line on: the serving process answers it as its
// own. From then on the front only waits, holding no descriptor of folder or socket, and removes the socket's name
// at the end. Either process ends with the other: the serving one at once, by the parent-death signal, and both when
// stdin ends.
package control
