/** Child programs that speak a protocol of helpers/contract on stdin and stdout. */
export { Program, type ProgramExit } from "./program.ts";
