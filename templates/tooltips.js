// Shows at once what the title of a chart's part says; without this, browsers show it after a while.
(() => {
  const tip = document.createElement('div');
  tip.id = 'tip';
  tip.hidden = true;
  document.body.append(tip);
  const show = (event) => {
    const part = event.target.closest && event.target.closest('.h');
    tip.hidden = !part;
    if (!part) return;
    const title = part.querySelector('title');
    if (title) {
      part.dataset.text = title.textContent;
      title.remove();
    }
    tip.textContent = part.dataset.text;
    const left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
    const above = event.clientY - tip.offsetHeight - 12;
    tip.style.left = Math.max(8, left) + 'px';
    tip.style.top = (above < 8 ? event.clientY + 18 : above) + 'px';
  };
  for (const kind of ['pointermove', 'pointerdown', 'scroll']) addEventListener(kind, show, { passive: true });
})();
