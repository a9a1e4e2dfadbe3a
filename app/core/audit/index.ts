/** The event log's door. */
export { AuditLog, type Recorded } from "./log.ts";
