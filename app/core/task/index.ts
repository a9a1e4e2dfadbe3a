/** Tasks' door. */
export { TaskService, type TaskServiceOptions } from "./service.ts";
export { wallSentence } from "./wall.ts";
