// How Go is run in the builder, and the step that makes our programs.

import { existsSync } from "node:fs";
import { join } from "node:path";

/**
 * Debian ships Go libraries as source. A module's debian.mod replaces each requirement by that source, so that
 * nothing is fetched here, while go.mod stays the ordinary one for everybody else.
 */
export function goEnv(moduleDirectory) {
  return {
    GOCACHE: "/cache/go-cache",
    GOPATH: "/cache/go-path",
    GOPROXY: "off",
    GOSUMDB: "off",
    GOTOOLCHAIN: "local",
    GOTELEMETRY: "off",
    GOFLAGS: existsSync(join(moduleDirectory, "debian.mod")) ? "-mod=mod -modfile=debian.mod" : "",
    CGO_ENABLED: "0",
  };
}
