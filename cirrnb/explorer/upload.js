// Takes NIfTI files that are dropped or chosen and hands them to the kernel in chunks: notebook servers cut the
// connection at messages of more than 10 MB.

const CHUNK = 2 * 1024 * 1024; // bytes

function render({ model, el }) {
  const zone = document.createElement("label");
  zone.className = "cn-drop";
  const words = document.createElement("span");
  const usual = "Own scans: drop NIfTI files here, or click to choose (.nii.gz, up to 200 MB each)";
  words.textContent = usual;
  words.setAttribute("role", "status");
  const input = document.createElement("input");
  input.type = "file";
  input.multiple = true;
  input.accept = ".nii,.gz";
  input.setAttribute("aria-label", "Own scans as NIfTI files");
  zone.append(words, input);
  el.append(zone);

  let queue = [];
  let present = null;

  const next = () => {
    present = queue.shift() || null;
    if (!present) {
      words.textContent = usual;
      return;
    }
    model.send({ kind: "begin", name: present.name, size: present.size });
  };
  const sendChunk = async (from) => {
    const file = present;
    if (!file) return;
    const data = await file.slice(from, from + CHUNK).arrayBuffer();
    if (file !== present) return;
    words.textContent = `${file.name}: ${Math.round((100 * from) / Math.max(file.size, 1))} %`;
    model.send({ kind: "chunk", from }, undefined, [data]);
  };
  const take = (files) => {
    queue.push(...files);
    if (!present) next();
  };
  const onMessage = (content) => {
    if (content.kind === "more") sendChunk(content.from);
    else if (content.kind === "done" || content.kind === "refused") next();
  };
  const over = (event) => {
    event.preventDefault();
    zone.classList.toggle("cn-over", event.type === "dragover");
  };
  const dropped = (event) => {
    over(event);
    take(event.dataTransfer.files);
  };
  const chosen = () => {
    take(input.files);
    input.value = "";
  };
  model.on("msg:custom", onMessage);
  zone.addEventListener("dragover", over);
  zone.addEventListener("dragleave", over);
  zone.addEventListener("drop", dropped);
  input.addEventListener("change", chosen);
  return () => {
    queue = [];
    present = null;
    model.off("msg:custom", onMessage);
  };
}

export default { render };
