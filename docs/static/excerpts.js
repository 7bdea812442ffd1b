// The search shows lines around what it found, from pages that it fetches. A page opened from a folder can fetch nothing:
// there, the text of the pages comes from page_texts.js, as [name, sections], each section [anchor, text].
if (window.location.protocol === "file:") {
  const fetchPage = window.fetch;
  const root = new URL(".", window.location.href).pathname;
  window.fetch = (address, ...more) => {
    const path = new URL(address, window.location.href).pathname;
    const sections = PAGE_TEXTS.get(decodeURIComponent(path.slice(root.length)).replace(/\.html$/, ""));
    if (!sections) return fetchPage(address, ...more);
    const main = document.createElement("div");
    main.setAttribute("role", "main");
    for (const [anchor, text] of sections) {
      const section = main.appendChild(document.createElement("section"));
      section.id = anchor;
      section.textContent = `${text} `;
    }
    return Promise.resolve(new Response(main.outerHTML));
  };
}
