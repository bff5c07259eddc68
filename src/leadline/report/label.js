"use strict";
(() => {
  const task = JSON.parse(document.getElementById("task").textContent);
  const element = Object.fromEntries(
    ["progress", "bar", "question", "image", "answers", "finished", "back", "save", "open", "note", "text", "copy"]
      .map((id) => [id, document.getElementById(id)]));
  const title = document.getElementById("finished-title");
  const place = "leadline-label-" + task.page;
  const choices = [...task.classes, task.none, task.unsure];
  const total = task.ids.length;
  // One answer per image from the first on: what is labelled is always the beginning of the random order.
  let labels = [];
  let shown = 0;
  let kept = true;
  let unsaved = false;

  const keys = new Map();
  const buttons = choices.map((answer, index) => {
    const button = document.createElement("button");
    button.type = "button";
    const own = answer === task.unsure ? ["u"] : answer === task.none ? ["0", "n"] : task.keys[index] ? [task.keys[index]] : [];
    for (const key of own) keys.set(key, index);
    if (own.length) {
      const kbd = document.createElement("kbd");
      kbd.textContent = own[0];
      button.append(kbd, " ");
      button.setAttribute("aria-keyshortcuts", own.join(" "));
    }
    button.append(answer);
    button.addEventListener("click", () => give(index));
    element.answers.append(button);
    return button;
  });

  function say(words, warn = false) {
    element.note.textContent = words;
    element.note.classList.toggle("warn", warn);
  }

  function keep() {
    try {
      localStorage.setItem(place, JSON.stringify(labels));
      kept = true;
    } catch {
      if (kept) say("This browser does not let the page keep its labels: save them before you close it.", true);
      kept = false;
    }
  }

  function valid(answers) {
    return Array.isArray(answers) && answers.length <= total && answers.every((answer) => choices.includes(answer));
  }

  function restore() {
    try {
      const before = JSON.parse(localStorage.getItem(place) ?? "[]");
      if (!valid(before)) return;
      labels = before;
      shown = labels.length;
      if (shown) say("Your labels of before are still here: it goes on where you were.");
    } catch {
      kept = false;
      say("This browser does not let the page keep its labels: save them before you close it.", true);
    }
  }

  function give(index) {
    if (shown >= total) return;
    labels[shown] = choices[index];
    shown += 1;
    unsaved = true;
    say("");
    keep();
    show();
  }

  function back() {
    if (!shown) return;
    shown -= 1;
    show();
  }

  function content() {
    return JSON.stringify({
      format: task.format,
      version: task.version,
      page: task.page,
      samples: task.samples,
      seed: task.seed,
      n: total,
      classes: task.classes,
      labels: labels.map((label, index) => ({ id: task.ids[index], label })),
      saved: new Date().toISOString(),
    }, null, 1) + "\n";
  }

  function save() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([content()], { type: "application/json" }));
    link.download = "human-labels-" + task.page + ".json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    unsaved = false;
    say("Saved " + labels.length + " of " + total + " labels as " + link.download + ".");
  }

  async function open(file) {
    let found;
    try {
      found = JSON.parse(await file.text());
    } catch {
      return say(file.name + " is not a file of labels: it is not valid JSON.", true);
    }
    if (found?.format !== task.format || found.version !== task.version) {
      return say(file.name + " is not a file of labels that this page reads.", true);
    }
    if (found.page !== task.page) return say(file.name + " belongs to another page: other images, classes or order.", true);
    const entries = Array.isArray(found.labels) ? found.labels : [];
    const answers = entries.map((entry) => entry?.label);
    if (!valid(answers) || entries.some((entry, index) => entry.id !== task.ids[index])) {
      return say(file.name + " holds labels that do not fit this page.", true);
    }
    if (answers.length < labels.length) {
      return say(file.name + " holds " + answers.length + " labels, this page already " + labels.length
        + ": nothing was changed. Save these, or open the page in another browser.", true);
    }
    labels = answers;
    shown = labels.length;
    say("Opened " + labels.length + " labels.");
    keep();
    show();
  }

  function show() {
    const done = shown >= total;
    element.question.hidden = done;
    element.finished.hidden = !done;
    element.bar.value = labels.length;
    element.back.disabled = shown === 0;
    element.save.disabled = labels.length === 0;
    element.progress.textContent = done
      ? "All " + total + " images are labelled"
      : "Image " + (shown + 1) + " of " + total + (labels.length > shown ? ", labelled already" : "");
    if (element.copy.open) element.text.value = content();
    if (done) return title.focus();
    element.image.src = task.images[shown];
    element.image.alt = "Image " + (shown + 1) + " of " + total;
    buttons.forEach((button, index) => button.setAttribute("aria-pressed", String(labels[shown] === choices[index])));
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (event.target instanceof HTMLTextAreaElement || event.target instanceof HTMLInputElement) return;
    const index = keys.get(event.key.toLowerCase());
    if (event.key === "Backspace" || event.key === "ArrowLeft") back();
    else if (index !== undefined) give(index);
    else return;
    event.preventDefault();
  });
  element.back.addEventListener("click", back);
  element.save.addEventListener("click", save);
  element.open.addEventListener("change", async () => {
    const [file] = element.open.files;
    if (file) await open(file);
    element.open.value = "";
    element.open.blur();
  });
  element.copy.addEventListener("toggle", () => { element.text.value = element.copy.open ? content() : ""; });
  window.addEventListener("beforeunload", (event) => { if (unsaved && !kept) event.preventDefault(); });

  element.image.classList.toggle("smooth", task.smooth);
  restore();
  show();
})();
