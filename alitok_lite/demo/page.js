// What the page does by itself: it sets up what appears, answers each press at once, and makes the keyboard work.
const alitok = {
  kinds: [],
  pressed: {},  // the button that asked last in each tab, to be pressed again if that fails

  // Calls `make` for each element of that kind, now and whenever one appears.
  found(selector, make) { this.kinds.push([selector, make]); this.scan(document); },

  scan(root) {
    for (const [selector, make] of this.kinds)
      for (const element of root.querySelectorAll(selector)) {
        const done = element.alitok ||= new Set();
        if (!done.has(selector)) { done.add(selector); make(element); }
      }
  },

  panel(tab) { return document.getElementById(`say-${tab}`)?.closest('[role=tabpanel]'); },

  say(tab, text, retry) {
    const line = document.getElementById(`say-${tab}`);
    if (!line || (!retry && line.textContent === text)) return;  // a screen reader would say it again
    line.textContent = text;
    line.classList.toggle('failed', Boolean(retry));
    if (!retry) return;
    const button = document.createElement('button');
    button.textContent = 'Try again';
    const again = this.pressed[tab] || document.getElementById(`again-${tab}`);
    button.addEventListener('click', () => again.click());
    line.append(' ', button);
  },

  asked(tab) {
    if (this.gone) return this.lost();
    const recent = performance.now() - this.last?.when < 300 && this.panel(tab)?.contains(this.last.button);
    if (this.last?.button.textContent !== 'Try again') this.pressed[tab] = recent ? this.last.button : null;
    this.say(tab, 'Asked. One moment ...');
    this.panel(tab)?.classList.add('al-waiting');
    this.panel(tab)?.classList.remove('al-unfinished');
    if (innerWidth < 640) document.getElementById(`say-${tab}`)?.scrollIntoView({block: 'nearest'});
  },

  answered(tab, text = '') {
    this.say(tab, text);
    const panel = this.panel(tab), waited = panel?.classList.contains('al-waiting');
    panel?.classList.remove('al-waiting');
    if (waited) setTimeout(() => this.heard(panel, panel.querySelector('.al-status')?.innerText), 100);  // it is there then
  },

  // What is in view is no whole drawing, and the buttons beneath it would be about the one before.
  stopped(tab) {
    const panel = this.panel(tab);
    if (!panel?.classList.contains('al-waiting')) return;
    this.answered(tab, 'Stopped.');
    panel.classList.add('al-unfinished');
  },

  // For screen readers alone.
  heard(panel, text) {
    const line = panel?.querySelector('.al-heard');
    if (line && text) line.textContent = text;
  },

  failed(tab) {
    const toast = [...document.querySelectorAll('.toast-body.error [data-testid=toast-text]')].pop();
    const text = toast?.textContent.trim() || 'The server did not answer.';
    const full = /queue is full|application is currently busy/i.test(text) ? 'Too many people are asking at once.' : text;
    this.panel(tab)?.classList.remove('al-waiting');
    this.say(tab, full[0].toUpperCase() + full.slice(1), true);
    document.querySelectorAll('.toast-body.error [data-testid=toast-close]').forEach(button => button.click());
  },

  // Gradio asks until the server is back, and then loads the page again, with all that is in its address.
  lost() {
    for (const line of document.querySelectorAll('.al-say')) {
      const tab = line.id.slice(4);
      this.panel(tab)?.classList.remove('al-waiting');
      this.say(tab, 'The server does not answer any more. This page goes on by itself when it is back.');
    }
    this.gone = true;
  },

  // Gradio's own tracker says "queue: 3/5 | 2.0/4.1s"; here it is in words.
  waiting(tab, told) {
    if (this.gone || this.panel(tab)?.classList.contains('al-unfinished')) return;  // a word that comes after Stop
    const place = told.match(/queue:\s*(\d+)\/(\d+)/), wait = told.match(/\/\s*([\d.]+)\s*s/);
    const ahead = place ? Number(place[1]) : 0;
    const people = ahead === 1 ? '1 press comes first' : `${ahead} presses come first`;
    const words = [ahead ? people : 'Working', wait ? `about ${Math.ceil(Number(wait[1]))} s in all` : ''];
    if (place || /processing/.test(told)) this.say(tab, words.filter(Boolean).join(', ') + '.');
  },

  present() {
    const on = document.body.classList.toggle('al-present');
    dispatchEvent(new Event('resize'));
    return on;
  },

  // The button has its file a moment after the answer.
  save(id) { setTimeout(() => document.getElementById(id).click(), 200); },
};

alitok.watch = () => {
  let due = false;
  const look = () => { due = false; alitok.scan(document); roving(); };
  new MutationObserver(() => { if (!due) { due = true; requestAnimationFrame(look); } })
    .observe(document.body, {childList: true, subtree: true});
  look();
};
if (document.readyState === 'loading') addEventListener('DOMContentLoaded', alitok.watch); else setTimeout(alitok.watch);

alitok.found('.al-say-box [data-testid="status-tracker"]', tracker => {
  const tab = tracker.closest('.al-say-box').querySelector('.al-say')?.id.slice(4);
  const told = () => alitok.waiting(tab, tracker.textContent);
  new MutationObserver(told).observe(tracker, {childList: true, subtree: true, characterData: true});
});

// On a phone the choices are below the result: a bar at the bottom leads there and back.
alitok.found('.al-controls-column', column => {
  const bar = document.createElement('div'), button = document.createElement('button');
  let chosen = false;  // the choices are in view
  const name = () => { button.textContent = chosen ? 'Back to the result ↑' : 'Choose ↓'; };
  new IntersectionObserver(([entry]) => { chosen = entry.isIntersecting; name(); }, {rootMargin: '0px 0px -35% 0px'}).observe(column);
  button.addEventListener('click', () => (chosen ? column.closest('[role=tabpanel]') : column).scrollIntoView());
  bar.className = 'al-bar';
  bar.append(button);
  column.parentElement.append(bar);
});

alitok.found('.toast-body.error', toast => { if (/Connection to the server was lost/.test(toast.textContent)) alitok.lost(); });

document.addEventListener('al-said', event => {
  alitok.heard(event.target.closest('[role=tabpanel]'), event.detail);
});

// A group of radio buttons, and the row of tabs, is one Tab stop; arrow keys choose in it, as everywhere on the web.
const TABS = '#tabs .tab-container:not(.visually-hidden)';
const groups = () => [...document.querySelectorAll(`fieldset .wrap, ${TABS}`)].map(members).filter(all => all.length);
const members = group => [...group.querySelectorAll('input[type=radio], [role=tab]')];
function roving() {
  for (const all of groups()) {
    const stop = all.find(one => one.checked || one.ariaSelected === 'true') || all[0];
    for (const one of all) one.tabIndex = one === stop ? 0 : -1;
  }
}
document.addEventListener('change', event => { if (event.target.type === 'radio') requestAnimationFrame(roving); });
document.addEventListener('keydown', event => {
  const step = {ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1}[event.key];
  const all = groups().find(group => group.includes(event.target));
  if (!step || !all) return;
  const next = all[(all.indexOf(event.target) + step + all.length) % all.length];
  event.preventDefault();
  next.focus();
  next.click();
});

addEventListener('click', event => {
  const button = event.target.closest('button');
  if (button) alitok.last = {button, when: performance.now()};
}, true);
document.addEventListener('click', event => {
  const link = event.target.closest('[data-open]');
  if (!link || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  alitok.open(link.dataset.open);
});
