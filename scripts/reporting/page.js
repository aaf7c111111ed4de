// Without this script all pictures of an image are shown, as in print; with it, the one chosen.
"use strict";
document.documentElement.classList.add("choosing");
for (const group of document.querySelectorAll(".pictures")) {
  const show = () => {
    const key = group.querySelector("input:checked").value;
    for (const shot of group.querySelectorAll(".shot")) {
      shot.classList.toggle("shown", shot.dataset.key === key);
    }
  };
  group.addEventListener("change", show);
  show();
}
