import { readFileSync } from "node:fs";
import { defineConfig } from "vitest/config";

/** What `go test -overlay` is for Go: the file that `CLOCHE_MUTANT` names says which sources are read from elsewhere. No source is touched. */
const overlay = process.env.CLOCHE_MUTANT;
const replaced = overlay === undefined ? {} : (JSON.parse(readFileSync(overlay, "utf8")) as { Replace: Record<string, string> }).Replace;

export default defineConfig({
  plugins: [
    {
      name: "mutant",
      enforce: "pre",
      load(id) {
        const copy = replaced[id.split("?")[0] ?? ""];
        return copy === undefined ? undefined : readFileSync(copy, "utf8");
      },
    },
  ],
  test: {
    root: new URL("../..", import.meta.url).pathname,
    include: ["app/**/*.test.ts", "test/structure/**/*.test.ts"],
    testTimeout: 30_000,
    // it is kept by the real file's content: one sabotage would be seen by all others
    fsModuleCache: false,
  },
});
