const plots = [...document.querySelectorAll("figure.plot")].map((figure) => {
  const { data, layout } = JSON.parse(figure.querySelector("script").textContent);
  const place = figure.querySelector("div");
  Plotly.newPlot(place, data, layout, { responsive: true, displaylogo: false });
  return place;
});
// Paper (A4 less its margins) is narrower than the window: figures are drawn again for it, and back afterwards.
// At once, since the browser does not wait: plotly's own resizing comes a tenth of a second late.
const PAPER = 672;
let narrowed = [];
addEventListener("beforeprint", () => {
  narrowed = plots.filter((place) => place.clientWidth > PAPER && place.querySelector("svg").clientWidth > PAPER);
  narrowed.forEach((place) => Plotly.relayout(place, { width: PAPER }));
});
addEventListener("afterprint", () => {
  narrowed.forEach((place) => Plotly.relayout(place, { width: null, autosize: true }));
});
