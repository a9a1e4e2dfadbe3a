/** The contract's one door. */
import "./no-eval.ts";

export * from "./catalogue.ts";
export * from "./change.ts";
export * from "./client.ts";
export * from "./egress.ts";
export * from "./event.ts";
export * from "./methods.ts";
export * from "./problem.ts";
export * from "./rpc.ts";
export * from "./stream.ts";
export * from "./task.ts";
export * from "./version.ts";
export * from "./web.ts";
