/** Folders' door. */
export { activityEvents, Changes } from "./changes.ts";
export { type Counted, Folder } from "./folder.ts";
export { type Grant, Grants, refuseOverlaps } from "./grants.ts";
export { guestFolderName, guestPathFor, OWN_FOLDER } from "./guest-path.ts";
export { activityWaits, changesWait, folderUnknown, nothingAsked, roomProblem } from "./problems.ts";
export { type Activity, type FolderSpec, folderConfinement, type ShareServer } from "./server.ts";
export { folderKey } from "./store.ts";
