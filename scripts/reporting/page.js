// Without this script all pictures and curves are shown, as in print; with it, those chosen.
"use strict";
document.documentElement.classList.add("script");

for (const box of document.querySelectorAll("[data-curve]")) {
  const show = () => {
    for (const part of document.querySelectorAll(`[id^="${box.dataset.curve}-"]`)) {
      part.style.display = box.checked ? "" : "none";
    }
  };
  box.addEventListener("change", show);
  show(); // a browser may remember a choice when it loads the page again
}

for (const group of document.querySelectorAll(".pictures")) {
  const images = [...group.querySelectorAll(".image")];
  const show = () => {
    const chosen = group.querySelector("[type=radio]:checked");
    images.forEach((image, i) => image.classList.toggle("chosen", i === Number(chosen?.value ?? 0)));
  };
  group.addEventListener("change", show);
  show();
  images.forEach(zoomable);
}

// Let one zoom, at x and y in percent of the way from the left and the top, move all panes of an image.
function zoomable(image) {
  const inputs = Object.fromEntries(
    [...image.querySelectorAll("[data-sets]")].map((input) => [input.dataset.sets, input]),
  );
  const value = (name) => Number(inputs[name].value);
  const update = () => {
    image.style.setProperty("--zoom", value("zoom"));
    image.style.setProperty("--x", `${value("x")}%`);
    image.style.setProperty("--y", `${value("y")}%`);
    image.classList.toggle("zoomed", value("zoom") > 1);
    image.classList.toggle("plain", inputs.errors?.checked === false);
    inputs.x.disabled = inputs.y.disabled = value("zoom") === 1;
  };
  for (const input of Object.values(inputs)) input.addEventListener("input", update);

  let start = null; // of a drag
  const grid = image.querySelector(".grid");
  grid.addEventListener("dragstart", (event) => event.preventDefault());
  grid.addEventListener("pointerdown", (event) => {
    const pane = event.target.closest(".pane");
    if (pane === null || event.button !== 0) return;
    start = { pane, at: [event.clientX, event.clientY], x: value("x"), y: value("y"), moved: false };
    if (value("zoom") > 1) pane.setPointerCapture(event.pointerId);
  });
  grid.addEventListener("pointermove", (event) => {
    if (start === null) return;
    const [dx, dy] = [event.clientX - start.at[0], event.clientY - start.at[1]];
    start.moved ||= Math.hypot(dx, dy) > 4;
    if (!start.moved || value("zoom") === 1) return;
    const more = value("zoom") - 1;
    inputs.x.value = start.x - (100 * dx) / (start.pane.clientWidth * more);
    inputs.y.value = start.y - (100 * dy) / (start.pane.clientHeight * more);
    update();
  });
  grid.addEventListener("pointercancel", () => (start = null));
  grid.addEventListener("pointerup", (event) => {
    if (start !== null && !start.moved) {
      const zoom = value("zoom") > 1 ? 1 : 4;
      const box = start.pane.getBoundingClientRect();
      const centre = [(event.clientX - box.x) / box.width, (event.clientY - box.y) / box.height];
      inputs.zoom.value = zoom;
      if (zoom > 1) {
        [inputs.x.value, inputs.y.value] = centre.map((c) => (100 * (c - 0.5 / zoom)) / (1 - 1 / zoom));
      }
      update();
    }
    start = null;
  });
  update();
}
