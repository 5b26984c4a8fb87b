// Moves along the front: texts, pictures, the point in the plot and the map of decisions follow the slider.
(function () {
  "use strict";
  var data = JSON.parse(document.getElementById("data").textContent);
  var slider = document.getElementById("slider");
  function put(id, text) {
    var e = document.getElementById(id);
    if (e) e.textContent = text;
  }

  // path draws the computed cells of a panel over so many steps, row by row, as the page's writer does.
  function path(bits, panel, steps) {
    var out = "";
    function on(step, block) {
      var i = step * data.row_len + (panel.first + block) * data.comps + panel.comp;
      return bits.charCodeAt(i >> 3) >> (i & 7) & 1;
    }
    for (var block = 0; block < panel.blocks; block++) {
      for (var step = 0; step < steps;) {
        if (!on(step, block)) { step++; continue; }
        var from = step;
        while (step < steps && on(step, block)) step++;
        out += "M" + from + " " + block + "h" + (step - from) + "v1h-" + (step - from) + "z";
      }
    }
    return out;
  }

  function show(index) {
    var s = data.steps[index];
    slider.setAttribute("aria-valuetext", s.text);
    put("now-name", s.name);
    put("now-ratio", s.ratio);
    put("now-cost", s.cost);
    put("now-quality", s.quality);
    put("now-reused", s.reused);
    put("now-remark", s.remark);
    put("now-command", s.command);
    put("now-heatmap", s.heatmap);
    document.querySelectorAll(".mark[data-index]").forEach(function (m) {
      m.classList.toggle("chosen", Number(m.dataset.index) === index);
    });
    document.querySelectorAll("[data-gallery]").forEach(function (img) {
      img.src = data.pictures[Number(img.dataset.gallery)][s.drawn].source;
    });
    document.querySelectorAll("[data-score]").forEach(function (e) {
      e.textContent = data.pictures[Number(e.dataset.score)][s.drawn].quality;
    });
    var bits = atob(s.cells);
    document.querySelectorAll("[data-panel]").forEach(function (p) {
      var panel = data.panels[Number(p.dataset.panel)];
      p.setAttribute("d", path(bits, panel, s.run));
      p.ownerSVGElement.setAttribute("viewBox", "0 0 " + s.run + " " + panel.blocks);
    });
  }

  slider.addEventListener("input", function () { show(Number(slider.value)); });
  document.querySelectorAll(".mark[data-index]").forEach(function (m) {
    m.addEventListener("click", function () {
      slider.value = m.dataset.index;
      show(Number(slider.value));
    });
  });
  show(Number(slider.value)); // browsers keep a slider's place when a page is loaded again
})();
