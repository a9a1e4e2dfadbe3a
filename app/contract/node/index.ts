/** The contract's door for programs that run in Node: sockets, the proof, finding and starting the keeper. */
export * from "./components.ts";
export * from "./connect.ts";
export * from "./endpoint.ts";
export * from "./first-line.ts";
export * from "./lines.ts";
export * from "./place.ts";
export * from "./proof.ts";
export * from "./spawn.ts";
