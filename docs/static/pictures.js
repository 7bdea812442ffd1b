// A picture that is shown smaller than it is becomes a link to itself, so that it can be read in full size.
window.addEventListener("load", () => {
  for (const picture of document.querySelectorAll("article img")) {
    if (picture.closest("a, figure, .cn-viewer") || picture.src.startsWith("data:")) continue;
    const link = document.createElement("a");
    link.href = picture.src;
    link.className = "picture";
    link.title = "Open the picture in full size";
    if (picture.naturalWidth > 1.5 * picture.naturalHeight) link.classList.add("wide");
    for (const name of ["only-light", "only-dark"]) if (picture.classList.contains(name)) link.classList.add(name);
    picture.replaceWith(link);
    link.append(picture);
  }
});
