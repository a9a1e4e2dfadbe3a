/** The guest's door: what the host says to a running guest, and what it believes of the answers (nothing). */
export { Agent } from "./agent.ts";
export { commandSubsystem, quote } from "./command.ts";
export { guestSilent } from "./silent.ts";
export { type MachineKeys, makeKeys, resizeChannel, SshConnection, signalChannel } from "./ssh.ts";
export { choosePorts, dialGuest, FirstConnection, forStreams } from "./streams.ts";
