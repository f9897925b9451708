// The webcam's pace. Gradio sends a frame at fixed times, whether the last one was answered or not;
// on a slow machine or line they would queue up, and the picture lag behind by seconds. So a frame
// is only taken when at most one is on its way, and none where answers take long: frames of several
// visitors would only wait for each other, and a photo for all of them. Each frame carries the time
// at which it was taken, as a parameter of its media type (live.py hands it back), which tells
// frames/s and latency too.
(() => {
  const ON_THEIR_WAY = 2; // frames: one that is worked on, and one that waits beside it
  const SLOW = 250, QUICK = 120; // milliseconds of latency: from here on one frame, and two again
  const LOST = 1500; // milliseconds after which an answer is not waited for any more
  const KEEP = 40; // frames that the numbers are taken from
  const QUALITY = 0.85; // of the JPEG
  let room = ON_THEIR_WAY;
  let sent = []; // times of the frames without an answer
  const shown = [];
  let stage = null;

  const busy = (now) => {
    sent = sent.filter((time) => now - time < LOST);
    return sent.length >= room;
  };

  // Nobody looks: another tab of the page is open, or another page.
  const away = () => document.hidden || !stage?.checkVisibility();

  // A camera without a width is one that Gradio takes no frame of.
  const width = Object.getOwnPropertyDescriptor(HTMLVideoElement.prototype, "videoWidth");
  function pace(video) {
    if (video.labPaced) return;
    video.labPaced = true;
    Object.defineProperty(video, "videoWidth", {
      get() { return away() || busy(performance.now()) ? 0 : width.get.call(this); },
    });
  }

  const encode = HTMLCanvasElement.prototype.toDataURL;
  HTMLCanvasElement.prototype.toDataURL = function (type, quality) {
    const taken = Number(performance.now().toFixed(1));
    const address = encode.call(this, type, quality ?? QUALITY);
    if (!address.startsWith("data:image/jpeg;")) return address;
    sent.push(taken);
    return address.replace("data:image/jpeg;", `data:image/jpeg;t=${taken};`);
  };

  let last = 0;
  function arrived(image) {
    const stamp = /^data:image\/jpeg;t=([\d.]+);/.exec(image.src.slice(0, 60));
    if (!stamp) return;
    const taken = Number(stamp[1]);
    if (taken === last) return; // one frame changes the page several times
    last = taken;
    sent = sent.filter((time) => time > taken); // earlier ones were passed over
    image.decode().then(() => {
      const now = performance.now();
      shown.push({ now, took: now - taken });
      while (shown.length > KEEP) shown.shift();
    }, () => {});
  }

  const write = (id, text) => {
    const place = document.getElementById(id);
    if (place && place.textContent !== text) place.textContent = text;
  };
  const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];

  setInterval(() => {
    const video = document.querySelector("#lab-camera video");
    if (video) pace(video);
    const place = document.getElementById("lab-live");
    if (place && place !== stage) {
      stage = place;
      new MutationObserver(() => {
        const image = stage.querySelector("img");
        if (image) arrived(image);
      }).observe(stage, { subtree: true, childList: true, attributeFilter: ["src"] });
    }
    const now = performance.now();
    while (shown.length && now - shown[0].now > 3000) shown.shift();
    const some = shown.length > 3;
    const seconds = some ? (shown[shown.length - 1].now - shown[0].now) / 1000 : 0;
    write("lab-fps", some ? ((shown.length - 1) / seconds).toFixed(0) : "–");
    const latency = some ? median(shown.map((f) => f.took)) : null;
    if (latency > SLOW) room = 1;
    else if (latency < QUICK) room = ON_THEIR_WAY;
    write("lab-latency", some ? latency.toFixed(0) : "–");
  }, 500);
})();
