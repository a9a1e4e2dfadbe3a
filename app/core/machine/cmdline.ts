/** The guest kernel's command line, as helpers/contract/README.md ("Boot") writes it down. */
import type { Manifest } from "../image/index.ts";

/** virtio serial of a layer's disk and of the task's own disk */
export const layerSerial = (index: number) => `layer${index}`;
export const DATA_SERIAL = "data";

export function bootCommandLine(manifest: Manifest, controlPort: number): string {
  const layers = manifest.layers.map((layer, index) => {
    const { algorithm, dataBlocks, hashStartBlock, rootHash, salt } = layer.verity;
    return `cloche.layer=${[layerSerial(index), algorithm, dataBlocks, hashStartBlock, rootHash, salt || "-"].join(",")}`;
  });
  return [
    "console=ttyS0",
    "quiet",
    "panic=-1",
    `cloche.control=${controlPort}`,
    `cloche.image=${manifest.id}`,
    ...layers,
    `cloche.data=${DATA_SERIAL}`,
  ].join(" ");
}
