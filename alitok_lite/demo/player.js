// Plays the frames that player.py sends. Each .al-player is set up when it appears in the page.
const still = matchMedia('(prefers-reduced-motion: reduce)');

class Player {
  constructor(root) {
    this.root = root;
    Object.assign(this, JSON.parse(root.dataset.play));
    this.sides = [...root.querySelectorAll('[data-side]')].map(figure => new Side(figure));
    this.slider = root.querySelector('.al-scrub');
    this.place = root.querySelector('output');
    this.button = root.querySelector('[data-do=play]');
    this.speed = root.querySelector('select');
    this.playing = false;
    root.querySelectorAll('[data-do]').forEach(button => button.addEventListener('click', () => this[button.dataset.do]()));
    this.slider.addEventListener('input', () => { this.pause(); this.show(Number(this.slider.value)); });
    Promise.all(this.sides.map(side => side.ready)).then(() => this.begin());
  }

  get last() { return this.steps.length - 1; }

  begin() {
    this.root.dataset.ready = 'yes';
    if (still.matches) this.show(this.last); else this.again();
  }

  show(frame) {
    this.frame = Math.min(Math.max(frame, 0), this.last);
    const told = this.steps[this.frame], whole = this.steps[this.last];
    this.sides.forEach(side => side.show(this.frame, told));
    this.root.querySelectorAll('.al-board b').forEach(
      cell => cell.classList.toggle('later', Number(cell.dataset.token) >= told));
    this.slider.value = this.frame;
    this.place.textContent = `token ${told} of ${whole}`;
    this.slider.setAttribute('aria-valuetext', this.place.textContent);
  }

  tick() {
    if (!this.root.isConnected) return;
    const visible = this.root.offsetParent !== null;
    if (visible && this.playing) {
      if (this.frame < this.last) this.show(this.frame + 1);
      else if (this.loop) this.show(0);
      if (this.frame === this.last) this.ended();
    }
    if (this.playing) this.later();
  }

  later() {
    const rest = this.frame === this.last ? 3500 : this.wait;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.tick(), rest / Number(this.speed.value));
  }

  ended() {
    if (!this.told && this.said) {
      this.told = true;
      this.root.dispatchEvent(new CustomEvent('al-said', {bubbles: true, detail: this.said}));
    }
    if (!this.loop) this.pause();
  }

  run() { this.playing = true; this.label(); this.later(); }
  pause() { this.playing = false; clearTimeout(this.timer); this.label(); }
  label() {
    this.button.textContent = this.playing ? 'Pause' : 'Play';
    this.button.setAttribute('aria-label', this.button.textContent);
  }

  play() {
    if (this.playing) return this.pause();
    if (this.frame === this.last) this.show(0);
    this.run();
  }
  again() { this.show(0); this.run(); }
  start() { this.pause(); this.show(0); }
  back() { this.pause(); this.show(this.frame - 1); }
  on() { this.pause(); this.show(this.frame + 1); }
}

class Side {
  constructor(figure) {
    Object.assign(this, JSON.parse(figure.dataset.side));
    this.canvas = figure.querySelector('canvas');
    this.cells = [...figure.querySelectorAll('.al-stage i')];
    this.numbers = [...figure.querySelectorAll('.al-counters span')];
    this.image = new Image();
    this.image.src = this.sprite;
    this.ready = this.image.decode();
  }

  show(frame, told) {
    const {width, height} = this.canvas;
    const x = frame % this.columns * width, y = Math.floor(frame / this.columns) * height;
    this.canvas.getContext('2d').drawImage(this.image, x, y, width, height, 0, 0, width, height);
    const moved = this.outlined && this.outlined[frame], untold = this.untold[frame] || [];
    this.cells.forEach((cell, index) => {
      cell.classList.toggle('moved', moved.includes(index));
      cell.classList.toggle('untold', untold.includes(index));
    });
    const words = this.numbers.map((span, index) => {
      const value = this.counters[index][frame];
      span.firstChild.textContent = Math.round(value);
      span.classList.toggle('on', value > 0);
      return span.textContent;
    });
    this.canvas.setAttribute('aria-label', [`${this.title}, after ${told} tokens`, ...words].join(': '));
  }
}

alitok.found('.al-player', root => new Player(root));
