/** Machines' door: a helper process and what it runs. */
export { bootCommandLine, DATA_SERIAL, layerSerial } from "./cmdline.ts";
export { type Accelerator, type MachineFacts, machineFacts } from "./facts.ts";
export { Helper, type HelperPrograms } from "./helper.ts";
