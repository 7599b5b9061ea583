/** What was dropped on the page, or chosen: a model, its folder, or recordings. */

const MODEL = "stream.onnx";

/**
 * @param {DataTransfer} transfer
 * @returns {Promise<{files: File[], folder: string}>} of a folder the files right in it, and its name
 */
export async function droppedFiles(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean); // before any await
  const folder = entries.find((entry) => entry.isDirectory);
  if (!folder) return { files: [...transfer.files], folder: "" };
  const found = await entriesOf(folder);
  const files = found.filter((entry) => entry.isFile)
    .map((entry) => new Promise((resolve, reject) => { entry.file(resolve, reject); }));
  return { files: await Promise.all(files), folder: folder.name };
}

/** Some browsers list a hundred at a time. */
async function entriesOf(folder) {
  const reader = folder.createReader();
  const found = [];
  for (let some; !some || some.length; found.push(...some)) {
    some = await new Promise((resolve, reject) => { reader.readEntries(resolve, reject); });
  }
  return found;
}

/**
 * Find the model among files.
 * @param {File[]} files
 * @param {string} folder that they are of; "" for files
 * @returns {File | undefined} none among recordings
 * @throws {Error} for a folder without one, with a message for the user
 */
export function modelFile(files, folder) {
  if (!folder) return files.find((file) => file.name.toLowerCase().endsWith(".onnx"));
  const model = files.find((file) => file.name === MODEL);
  if (model) return model;
  const names = files.map((file) => file.name).sort();
  const found = names.length > 5 ? `${names.slice(0, 5).join(", ")} and ${names.length - 5} more` : names.join(", ");
  throw new Error(`${folder}: no ${MODEL} in this folder; found ${found || "no file"}. `
    + `\`kws export\` writes one into a model's folder. Recordings are dropped as files.`);
}
