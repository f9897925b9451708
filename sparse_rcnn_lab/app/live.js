// Frames a second and latency of the webcam, told by the page itself: each frame carries the time
// at which it was taken (live.py), and is counted when the screen shows it.
(() => {
  const KEEP = 40; // frames
  const QUALITY = 0.85;
  const shown = [];
  let watched = null;
  const encode = HTMLCanvasElement.prototype.toDataURL;
  HTMLCanvasElement.prototype.toDataURL = function (type, quality) {
    const taken = performance.now();
    const address = encode.call(this, type, quality ?? QUALITY);
    return address.replace("data:image/jpeg;", `data:image/jpeg;t=${taken.toFixed(1)};`);
  };
  const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];

  function write(id, text) {
    const place = document.getElementById(id);
    if (place && place.textContent !== text) place.textContent = text;
  }

  function arrived(image) {
    const stamp = /^data:image\/jpeg;t=([\d.]+);/.exec(image.src.slice(0, 60));
    if (!stamp) return;
    image.decode().then(() => {
      const now = performance.now();
      shown.push({ now, took: now - Number(stamp[1]) });
      while (shown.length > KEEP) shown.shift();
    }, () => {});
  }

  setInterval(() => {
    const stage = document.getElementById("lab-live");
    if (stage && stage !== watched) {
      watched = stage;
      new MutationObserver(() => {
        const image = stage.querySelector("img");
        if (image) arrived(image);
      }).observe(stage, { subtree: true, childList: true, attributes: true, attributeFilter: ["src"] });
    }
    const now = performance.now();
    while (shown.length && now - shown[0].now > 3000) shown.shift();
    const some = shown.length > 3;
    const seconds = some ? (shown[shown.length - 1].now - shown[0].now) / 1000 : 0;
    write("lab-fps", some ? ((shown.length - 1) / seconds).toFixed(0) : "–");
    write("lab-latency", some ? median(shown.map((f) => f.took)).toFixed(0) : "–");
  }, 500);
})();
