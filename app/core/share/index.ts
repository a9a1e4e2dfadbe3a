/** Folders' door. */
export { type Grant, Grants, refuseOverlaps } from "./grants.ts";
export { guestFolderName, guestPathFor, OWN_FOLDER } from "./guest-path.ts";
export { folderConfinement, ShareServer } from "./server.ts";
