/** Core's door for the keeper: everything the product does, in plain Node. */
export { AuditLog } from "./audit/index.ts";
export { runDoctor } from "./doctor/index.ts";
export { imageView, openImage, verifyImage } from "./image/index.ts";
export { Paths } from "./paths.ts";
export { folderConfinement, Grants } from "./share/index.ts";
export { TaskService } from "./task/index.ts";
export { type Secret, systemKeychain, Vault } from "./vault/index.ts";
