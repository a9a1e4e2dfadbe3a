import { describe, expect, it } from "vitest";
import { chooseName, resolveTask } from "./names.ts";
import type { TaskFile } from "./store.ts";

const task = (name: string, ended?: string) => ({ name, id: `${name}-id`, ...(ended ? { ended } : {}) }) as unknown as TaskFile;
const code = (call: () => unknown) => {
  try {
    call();
  } catch (error) {
    return (error as { problem: { code: string } }).problem.code;
  }
  return "none";
};

describe("a task's name", () => {
  it("is made from the folder's, with a number when it is taken", () => {
    expect(chooseName(undefined, "Receipts 2026", new Set())).toBe("receipts-2026");
    expect(chooseName(undefined, "Receipts", new Set(["receipts", "receipts-2"]))).toBe("receipts-3");
    expect(chooseName(undefined, "日本", new Set())).toBe("task");
    expect(chooseName(undefined, "x".repeat(200), new Set())).toHaveLength(40);
  });

  it("is refused when it is none, or is taken", () => {
    for (const bad of ["", "A", "a b", "-a", "../x", "a".repeat(49)]) expect(code(() => chooseName(bad, "", new Set()))).toBe("task.name");
    expect(code(() => chooseName("a", "", new Set(["a"])))).toBe("task.exists");
    expect(chooseName("a", "", new Set())).toBe("a");
  });
});

describe("a task is found", () => {
  const tasks = [
    task("receipts"),
    task("receipts-2"),
    task("web"),
    task("old", "2026-01-01T00:00:00Z"),
    task("old", "2026-01-02T00:00:00Z"),
  ];
  it("by its name, by its id, by a prefix that only it has", () => {
    expect(resolveTask("receipts", tasks).name).toBe("receipts");
    expect(resolveTask("web-id", tasks).name).toBe("web");
    expect(resolveTask("w", tasks).name).toBe("web");
    expect(resolveTask("old", tasks).ended).toBe("2026-01-02T00:00:00Z");
  });
  it("or refused when several fit, or none", () => {
    expect(code(() => resolveTask("rec", tasks))).toBe("task.ambiguous");
    expect(code(() => resolveTask("nope", tasks))).toBe("task.unknown");
    expect(code(() => resolveTask("ol", tasks))).toBe("task.unknown");
  });
});
