// The page's address says what is set; Back restores what was set before; the last drawings are kept in this browser.
const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

Object.assign(alitok, {
  states: {},
  current: new URLSearchParams(location.search).get('tab') || 'tell',
  written: 0,  // when an entry of the history was
  restoring: 0,  // since when
  started: false,  // until what the address asks for is set, nothing is written into it

  address(tab) {
    const query = new URLSearchParams({tab, ...this.states[tab]});
    const theme = new URLSearchParams(location.search).get('__theme');
    if (theme) query.set('__theme', theme);
    return `?${query}`;
  },

  // An entry of the browser's history holds all that is set in its tab, and its address names it.
  entry(tab, how, address = this.address(tab)) {
    history[how]({tab, set: this.states[tab] || {}}, '', address);
    this.written = performance.now();
  },

  set(tab, names, values) {
    const set = {};
    names.forEach((name, index) => {
      const value = values[index];
      if (value !== null && value !== undefined && value !== '' && value !== false) set[name] = String(value);
    });
    return this.states[tab] = set;
  },

  // Changes within a second are one step for Back, and so are a picture and its ids, which come with the answer.
  link(tab, names, values) {
    const before = this.states[tab] || {}, set = this.set(tab, names, values);
    if (!this.started || tab !== this.current || this.restoring || same(before, set)) return;
    const answer = set.ids && !before.ids;
    this.entry(tab, answer || performance.now() - this.written < 1000 ? 'replaceState' : 'pushState');
  },

  opened(tab) {
    requestAnimationFrame(roving);
    if (this.gone) setTimeout(() => this.lost(), 100);  // what it shows is there then
    if (tab === this.current || (!this.started && tab === 'tell')) return;  // at first Gradio opens the first tab
    this.current = tab;
    if (this.started && !this.restoring) this.entry(tab, 'pushState');
  },

  start(names, values) {
    for (const [tab, own] of Object.entries(names)) this.set(tab, own, values.splice(0, own.length));
    const selected = document.querySelector('#tabs [role=tab][aria-selected=true]')?.id.split('-')[1] || 'tell';
    if (selected === 'tell') this.open(this.current); else this.current = selected;  // a visitor was quicker
    this.started = true;
    this.entry(this.current, 'replaceState', selected === 'tell' ? location.href : undefined);
    this.written = 0;
  },

  // Back and Forward: the tab is opened, and if other things are set there now, the server sets what was set then.
  back({tab, set}) {
    this.restoring = performance.now();
    if (tab !== this.current) this.open(tab);
    if (same(set, this.states[tab] || {})) return this.restored();
    this.wanted = `${new URLSearchParams({tab, ...set})}`;
    this.answered('draw');  // a drawing under way is ended
    document.getElementById('go-back').click();
  },

  restored() {
    const asked = this.restoring;
    setTimeout(() => { if (this.restoring === asked) { this.restoring = 0; this.written = 0; } }, 300);  // changes come late
  },

  open(tab) { document.querySelector(`#tab-${tab}-button`)?.click(); },

  copy(tab) {
    const link = tab === 'draw' && this.drawn ? `?${this.drawn}` : this.address(tab);
    const whole = new URL(link, location.href).href;
    const done = () => this.say(tab, 'The link is copied.');
    const asked = navigator.clipboard?.writeText(whole);
    if (asked) asked.then(done, () => this.say(tab, whole)); else this.say(tab, whole);
  },

  drew(link) {
    if (!link || link === this.drawn) return;
    this.drawn = link;
    const canvas = document.querySelector('#drawing canvas');
    if (!canvas) { requestAnimationFrame(() => { this.drawn = ''; this.drew(link); }); return; }
    const small = document.createElement('canvas');
    small.width = small.height = 64;
    const image = new Image(), side = JSON.parse(canvas.closest('[data-side]').dataset.side);
    image.src = side.sprite;
    image.decode().then(() => {
      const frame = side.counters?.length ? 0 : JSON.parse(canvas.closest('.al-player').dataset.play).steps.length - 1;
      const {width, height} = canvas, x = frame % side.columns * width, y = Math.floor(frame / side.columns) * height;
      small.getContext('2d').drawImage(image, x, y, width, height, 0, 0, 64, 64);
      const kept = [{link, picture: small.toDataURL()}, ...this.drawings().filter(each => each.link !== link)];
      try { localStorage.setItem('alitok-drawings', JSON.stringify(kept.slice(0, 12))); } catch { /* full, or forbidden */ }
      this.strip();
    });
  },

  drawings() {
    try { return JSON.parse(localStorage.getItem('alitok-drawings')) || []; } catch { return []; }
  },

  strip() {
    const place = document.getElementById('al-strip');
    if (!place) return;
    place.replaceChildren(...this.drawings().map(({link, picture}) => {
      const given = new URLSearchParams(link), entry = document.createElement('a'), image = new Image();
      entry.href = `?${given}`;
      entry.title = image.alt = `${given.get('class')}, seed ${given.get('seed')}, ${given.get('model')}: draw it again`;
      image.src = picture;
      entry.append(image);
      return entry;
    }));
  },
});

alitok.found('#al-strip', () => alitok.strip());
addEventListener('popstate', event => { if (event.state?.tab) alitok.back(event.state); });
