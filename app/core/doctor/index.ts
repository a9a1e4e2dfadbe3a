/** Doctor's door: what this host has, what it lacks, and the fix for each. */
export { type DoctorOptions, runDoctor } from "./checks.ts";
