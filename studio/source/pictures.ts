/** The picture of the network as a file: SVG as the server draws it, or PNG of twice the size. */

import { call } from "./api";
import { keep } from "./exports";
import { fail, model, say, theme } from "./store";

const SCALE = 2;

export async function savePicture(kind: "svg" | "png") {
  try {
    const { svg } = await call<{ svg: string }>(`picture/${theme.value}`);
    const data = new Blob([svg], { type: "image/svg+xml" });
    keep(kind === "svg" ? data : await raster(data), `${model.value?.title || "network"}.${kind}`);
    say(`The picture is saved as ${kind.toUpperCase()}.`);
  } catch (error) {
    fail(error);
  }
}

async function raster(svg: Blob): Promise<Blob> {
  const image = new Image();
  image.src = URL.createObjectURL(svg);
  try {
    await image.decode();
  } finally {
    URL.revokeObjectURL(image.src);
  }
  const board = document.createElement("canvas");
  [board.width, board.height] = [image.naturalWidth * SCALE, image.naturalHeight * SCALE];
  board.getContext("2d")!.drawImage(image, 0, 0, board.width, board.height);
  return new Promise((resolve, reject) => board.toBlob((made) => (made ? resolve(made) : reject(new Error("The browser could not draw the picture."))), "image/png"));
}
