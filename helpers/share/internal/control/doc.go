// Package control is the share server's side towards the keeper: JSON-RPC on stdio, and the processes.
//
//	keeper ──stdio──▶ front      hello, identify; at `serve` opens the folder, compares, binds the socket and starts
//	                    │
//	                  child      confine.Enter, then execs itself into
//	                    ▼
//	keeper ──stdio──▶ serving    sealed; answers that same `serve` and from then on everything
//
// The front reads no byte beyond the line of `serve`, and hands that line on: the serving process answers it as its
// own. From then on the front only waits, and removes the socket's name at the end. Where versions are kept it is the
// broker too (internal/broker), holding descriptors of folder and store, and confined to renaming between them. Either process ends with the other: the serving one at once, by the parent-death signal, and both when
// stdin ends.
package control
