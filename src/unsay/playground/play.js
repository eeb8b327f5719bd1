(function () {
  "use strict";
  function $(id) { return document.getElementById(id); }
  var names = document.body.dataset;
  var picture = null; // data URL of the dropped picture
  var running = []; // what ends the answers under way
  var latest = null; // the turn that the slider asks again

  function post(path, body, signal) {
    return fetch(path, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal: signal
    });
  }

  function problem(text) {
    $("problem").textContent = text || "";
    $("problem").hidden = !text;
  }

  // --- what is loaded -------------------------------------------------------------------------------------------
  function watch() {
    fetch("/state").then(function (reply) { return reply.json(); }).then(function (state) {
      var status = $("status");
      var failed = state.models !== "ready" && state.models !== "loading";
      status.className = failed ? "bad" : state.models === "ready" ? "" : "loading";
      status.textContent = failed ? state.models : state.models === "ready" ? "ready" : "loading the model";
      if (state.judged) $("judged").textContent = state.judged;
      else if (state.judge !== "loading" && state.judge !== "ready") $("judged").textContent = "No judge: " + state.judge;
      if (state.models === "ready") $("strength-row").hidden = !state.gradual;
      if (state.models === "loading" || state.judge === "loading") setTimeout(watch, 700);
    }).catch(function () {
      $("status").className = "bad";
      $("status").textContent = "the playground has ended";
      setTimeout(watch, 3000);
    });
  }

  // --- the request ----------------------------------------------------------------------------------------------
  function drawing() { return $("draw").getAttribute("aria-pressed") === "true"; }

  function preview(url) {
    $("preview").hidden = !url;
    if (url) $("preview").firstElementChild.src = url;
    else $("preview").firstElementChild.removeAttribute("src");
  }

  function takePicture(file) {
    problem("");
    if (!file) return;
    if (file.size > 20 * 1048576) { problem("The picture is larger than 20 MB."); return; }
    var reader = new FileReader();
    reader.onload = function () {
      var probe = new Image();
      probe.onload = function () {
        setDrawing(false);
        picture = reader.result;
        preview(picture);
      };
      probe.onerror = function () { problem("This file is no picture that can be read: PNG, JPEG, WebP and GIF are."); };
      probe.src = reader.result;
    };
    reader.readAsDataURL(file);
    $("file").value = "";
  }

  function setDrawing(on) {
    $("draw").setAttribute("aria-pressed", String(on));
    if (on) picture = null;
    preview(on ? null : picture);
    if (on) showDrawn();
  }

  var drawnSoon = 0;
  function showDrawn() {
    clearTimeout(drawnSoon);
    if (!drawing()) return;
    drawnSoon = setTimeout(function () {
      var text = words();
      if (!text) { preview(null); return; }
      draw(text, function (made) {
        if (!drawing() || text !== words()) return;  // a later one is on its way
        problem(made.error);
        preview(made.picture || null);
      });
    }, 150);
  }

  function words() { return $("words").value.trim(); }

  function draw(text, then) {
    post("/draw", { text: text }).then(function (reply) { return reply.json(); }).then(then)
      .catch(function () { problem("The playground does not answer."); });
  }

  $("draw").addEventListener("click", function () { problem(""); setDrawing(!drawing()); });
  $("remove").addEventListener("click", function () { picture = null; setDrawing(false); });
  $("file").addEventListener("change", function () { takePicture(this.files[0]); });
  $("words").addEventListener("input", function () { problem(""); showDrawn(); });
  $("words").addEventListener("keydown", function (event) {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); submit(); }
  });
  $("words").addEventListener("paste", function (event) {
    var file = event.clipboardData && event.clipboardData.files[0];
    if (file) { event.preventDefault(); takePicture(file); }
  });
  ["dragover", "dragleave", "drop"].forEach(function (name) {
    // Anywhere on the page: a picture that misses the field would otherwise replace the page.
    document.addEventListener(name, function (event) {
      event.preventDefault();
      $("composer").classList.toggle("over", name === "dragover");
      if (name === "drop") takePicture(event.dataTransfer.files[0]);
    });
  });
  $("composer").addEventListener("submit", function (event) { event.preventDefault(); submit(); });

  function submit() {
    if (running.length) { stop(); return; }
    var text = words();
    if (!text && !picture) { problem("Type a request, or drop a picture."); $("words").focus(); return; }
    var kind = document.querySelector("input[name=kind]:checked").value, drawn = drawing();
    function ask(shown) {
      if (running.length) return;  // asked twice while it was being drawn
      begin({
        asked: { text: text, picture: picture, drawn: drawn, kind: kind },
        words: text, shown: shown, typed: true, harmful: kind === "attack",
        role: drawn ? "Asked in the picture" : picture ? "Asked beside the picture" : "Asked"
      });
    }
    if (!drawn) { ask(picture); return; }
    // What the card shows is what both models see, whatever the preview has got to.
    draw(text, function (made) {
      problem(made.error);
      if (!made.error) ask(made.picture);
    });
  }

  document.querySelectorAll(".chip").forEach(function (chip) {
    chip.addEventListener("click", function () {
      stop();
      begin({
        asked: { example: Number(chip.dataset.example), kind: chip.dataset.kind },
        words: chip.dataset.text, shown: chip.dataset.picture || null, typed: false,
        harmful: chip.dataset.kind === "attack", role: chip.title
      });
    });
  });

  // --- answers --------------------------------------------------------------------------------------------------
  function stop() {
    running.slice().forEach(function (end) { end(); });
  }

  function busy() {
    $("ask").textContent = running.length ? "Stop" : "Ask both";
    $("ask").classList.toggle("stop", running.length > 0);
  }

  function hidden(part, on) {
    part.classList.toggle("hide", on);
    part.inert = on && part.tagName !== "IMG";
    part.setAttribute("aria-hidden", String(on));
  }

  function begin(question) {
    problem("");
    var card = $("turn").content.firstElementChild.cloneNode(true);
    var turn = { question: question, card: card, sides: {} };
    card.querySelector(".asked .role").textContent = question.role;
    var words = card.querySelector(".asked .words"), image = card.querySelector("img");
    words.textContent = question.words;
    if (question.shown) { image.src = question.shown; image.hidden = false; }
    if (question.harmful && !question.typed) {
      hidden(words, true);
      hidden(image, true);
      card.querySelector(".asked").addEventListener("click", function () { hidden(words, false); hidden(image, false); });
    }
    ["before", "after"].forEach(function (phase) { turn.sides[phase] = side(turn, phase); });
    card.querySelector(".again").addEventListener("click", function () {
      latest = turn;
      ask(turn, "before");
      ask(turn, "after");
    });
    card.querySelector(".keep").addEventListener("click", function () { keep(turn); });
    $("turns").prepend(card);
    latest = turn;
    ask(turn, "before");
    ask(turn, "after");
    card.scrollIntoView({ block: "nearest", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  }

  function side(turn, phase) {
    var box = $("answer").content.firstElementChild.cloneNode(true);
    box.classList.add(phase);
    box.querySelector(".who").textContent = names[phase];
    turn.card.querySelector(".answers").append(box);
    var made = { phase: phase, box: box, text: box.querySelector(".text"), opened: false, declines: false, label: null, end: null };
    var button = box.querySelector(".veil");
    button.addEventListener("click", function () { made.opened = !made.opened; veil(turn); });
    box.addEventListener("click", function (event) {
      // `inert` text takes no clicks, so its box does.
      if (made.text.classList.contains("hide") && event.target !== button) { made.opened = true; veil(turn); }
    });
    return made;
  }

  function looksHarmful(turn, one) {
    var other = turn.sides[one.phase === "before" ? "after" : "before"];
    if (one.label === "harmful") return true;
    if (turn.question.harmful) return !one.declines;
    return turn.question.typed && other.declines && !one.declines;
  }

  function veil(turn) {
    Object.keys(turn.sides).forEach(function (phase) {
      var one = turn.sides[phase], button = one.box.querySelector(".veil");
      var covered = looksHarmful(turn, one) && one.text.textContent !== "" && !one.text.classList.contains("waiting");
      hidden(one.text, covered && !one.opened);
      button.hidden = !covered;
      button.textContent = one.opened ? "Hide" : "Show";
      button.setAttribute("aria-expanded", String(one.opened));
    });
  }

  function ask(turn, phase) {
    var one = turn.sides[phase], control = new AbortController();
    if (one.end) one.end();
    var strength = Number($("strength").value), pill = one.box.querySelector(".pill"), cost = one.box.querySelector(".cost");
    one.opened = one.declines = false;
    one.label = null;
    pill.hidden = true;
    cost.textContent = "";
    cost.classList.remove("red");
    one.text.textContent = "";
    one.text.className = "text typing";
    one.box.querySelector(".how").textContent =
      phase === "after" && !$("strength-row").hidden && strength !== 1 ? "at strength " + strength.toFixed(2) : "";
    var ended = false;
    function end() {
      if (ended) return;
      ended = true;
      control.abort();
      running = running.filter(function (other) { return other !== end; });
      one.end = null;
      one.text.classList.remove("typing", "waiting");
      busy();
    }
    one.end = end;
    running.push(end);
    busy();
    veil(turn);
    var body = Object.assign({}, turn.question.asked, { phase: phase, strength: strength });
    post("/answer", body, control.signal).then(function (reply) {
      if (!reply.ok) return reply.json().then(function (made) { throw new Error(made.error); });
      return lines(reply, function (line) { take(turn, one, line); });
    }).catch(function (error) {
      if (ended) return;
      take(turn, one, { error: error instanceof TypeError ? "the playground does not answer" : error.message });
    }).then(end);
  }

  function lines(reply, each) {
    var reader = reply.body.getReader(), decoder = new TextDecoder(), rest = "";
    function more() {
      return reader.read().then(function (part) {
        rest += decoder.decode(part.value || new Uint8Array(), { stream: !part.done });
        var whole = rest.split("\n");
        rest = whole.pop();
        whole.forEach(function (line) { each(JSON.parse(line)); });
        return part.done ? undefined : more();
      });
    }
    return more();
  }

  function take(turn, one, line) {
    var cost = one.box.querySelector(".cost");
    if (line.waiting) {
      if (one.text.textContent === "" || one.text.classList.contains("waiting")) {
        one.text.classList.add("waiting");
        one.text.textContent = line.waiting;
      }
    }
    if (line.text !== undefined) {
      one.text.classList.remove("waiting");
      one.text.textContent = line.text;
      one.declines = line.declines;
    }
    if (line.tokens !== undefined) {
      one.text.classList.remove("typing");
      if (!one.text.textContent) { one.text.textContent = "(empty)"; }
      cost.textContent = line.tokens + " tokens in " + line.seconds.toFixed(1) + " s" + (line.complete ? "" : ", cut off at the limit");
    }
    if (line.verdict) {
      var pill = one.box.querySelector(".pill");
      one.label = line.verdict.label;
      pill.hidden = false;
      pill.textContent = line.verdict.label;
      pill.className = "pill " + (!turn.question.harmful && one.label === "refused" ? "missed" : one.label);
      pill.title = line.verdict.why;
      if (line.verdict.harm !== null) cost.textContent += " · judged harmful with probability " + line.verdict.harm.toFixed(2);
      else if (line.verdict.why) cost.textContent += " · " + line.verdict.why;
    }
    if (line.error) {
      one.text.classList.remove("typing", "waiting");
      if (one.text.textContent === "" ) one.text.textContent = "No answer.";
      cost.textContent = line.error;
      cost.classList.add("red");
    }
    veil(turn);
  }

  function keep(turn) {
    var note = turn.card.querySelector(".kept");
    post("/keep", Object.assign({}, turn.question.asked, { phase: "before" })).then(function (reply) {
      return reply.json();
    }).then(function (made) {
      note.classList.toggle("red", Boolean(made.error));
      note.textContent = made.error || "In " + made.path + ", which has " + made.rows + (made.rows === 1 ? " row." : " rows.");
    }).catch(function () { note.textContent = "The playground does not answer."; });
  }

  $("strength").addEventListener("input", function () { $("strength-value").textContent = Number(this.value).toFixed(2); });
  $("strength").addEventListener("change", function () { if (latest) ask(latest, "after"); });
  watch();
  $("words").focus();
})();
