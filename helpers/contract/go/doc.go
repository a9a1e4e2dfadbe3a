// Package contract carries the framing and the JSON-RPC peer that the helper, the share server and the agent share.
//
// The protocols themselves are written down in ../README.md and ../protocol.ts; this package knows only lines,
// requests and errors. It is strict on purpose: a line over MaxLineBytes, a line that is not one JSON object, or
// too many open requests end the connection before anything of the offending line is acted on.
package contract
