// Files that a person drops: also those in folders.

import { say } from "./shell.js";

const MAX_FILES = 500;
const PICTURE = /\.(jpe?g|png|webp|avif|heic|heif|bmp|gif|tiff?)$/i;

/** Whether a file seems to be a picture; browsers do not know the type of all of them, such as HEIC. */
export const isPicture = (file) => file.type.startsWith("image/") || (!file.type && PICTURE.test(file.name));

/**
 * The files that were dropped, and the pictures in folders that were.
 * @param {DataTransfer} transfer of the event, which has to be read before the event ends.
 * @returns {Promise<File[]>} of folders the first 500 pictures, by name; a message says if there are more.
 */
export async function droppedFiles(transfer) {
  const files = [...transfer.files];
  const entries = [...transfer.items].filter(({ kind }) => kind === "file").map((item) => item.webkitGetAsEntry?.());
  if (!entries.some((entry) => entry?.isDirectory)) return files;
  const found = [];
  for (const entry of entries) if (entry) await collect(entry, found);
  if (found.length > MAX_FILES) {
    found.length = MAX_FILES;
    say(`Only the first ${MAX_FILES} pictures are used.`, { bad: true, seconds: 12 });
  }
  return found;
}

async function collect(entry, found, isInFolder = false) {
  if (found.length > MAX_FILES) return;
  if (entry.isFile) {
    const file = await new Promise((resolve) => { entry.file(resolve, () => resolve(null)); });
    if (file && (!isInFolder || isPicture(file))) found.push(file);
    return;
  }
  const reader = entry.createReader(), entries = [];
  for (;;) {
    // A reader gives some entries at a time, and none at the end.
    const some = await new Promise((resolve) => { reader.readEntries(resolve, () => resolve([])); });
    if (!some.length) break;
    entries.push(...some);
  }
  entries.sort((one, other) => one.name.localeCompare(other.name, undefined, { numeric: true }));
  for (const one of entries) await collect(one, found, true);
}
