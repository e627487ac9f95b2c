/* global element, trigger */
element.tabIndex = 0;
element.setAttribute('role', 'group');
element.setAttribute('aria-label', 'Click a patch, or move with the arrow keys');
element.addEventListener('click', event => {
  const cell = event.target.closest('.al-pick [data-token]');
  if (cell) trigger('click', {token: Number(cell.dataset.token)});
});
element.addEventListener('keydown', event => {
  const board = element.querySelector('.al-pick'), here = element.querySelector('.al-pick .here');
  if (!here) return;
  const grid = Number(board.dataset.grid), tokens = Number(board.dataset.tokens);
  const step = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -grid, ArrowDown: grid}[event.key];
  if (!step) return;
  event.preventDefault();
  const token = Number(here.dataset.token) + step;
  if (token >= 0 && token < tokens) trigger('click', {token});
});
