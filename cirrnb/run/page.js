const plots = [...document.querySelectorAll("figure.plot")].map((figure) => {
  const { data, layout } = JSON.parse(figure.querySelector("script").textContent);
  const place = figure.querySelector("div");
  Plotly.newPlot(place, data, layout, { responsive: true, displaylogo: false });
  return place;
});
// Paper is narrower than the window: figures are drawn again for it, and back afterwards.
const redraw = (printing) => {
  document.documentElement.classList.toggle("printing", printing);
  plots.forEach((place) => Plotly.Plots.resize(place));
};
addEventListener("beforeprint", () => redraw(true));
addEventListener("afterprint", () => redraw(false));
