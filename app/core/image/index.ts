/** Guest images' door. */

export { canonicalJson, type Image, imageView, type Manifest, manifestId, manifestSchema, openImage, parseManifest } from "./manifest.ts";
export { expandTemplate } from "./template.ts";
export { verifyBootFiles, verifyImage } from "./verify.ts";
