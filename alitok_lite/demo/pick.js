/* global element, trigger */
// For the component that shows a picker: a click on a cell or a code, or an arrow key, tells which. The component has
// the focus, because what is in it is replaced by each answer.
const name = () => {
  const picks = Boolean(element.querySelector('.al-pick'));
  if (!picks) return ['tabindex', 'role', 'aria-label'].forEach(key => element.removeAttribute(key));
  element.tabIndex = 0;
  element.setAttribute('role', 'group');
  element.setAttribute('aria-label', 'Click a patch, or move with the arrow keys');
};
name();
new MutationObserver(name).observe(element, {childList: true, subtree: true});
element.addEventListener('click', event => {
  const cell = event.target.closest('.al-pick [data-token]'), code = event.target.closest('[data-code]');
  if (cell) trigger('click', {token: Number(cell.dataset.token)});
  if (code) trigger('click', {code: Number(code.dataset.code)});
});
element.addEventListener('keydown', event => {
  const board = element.querySelector('.al-pick');
  if (!board || event.target.closest('input, button, select, a')) return;
  const grid = Number(board.dataset.grid), tokens = Number(board.dataset.tokens);
  const step = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -grid, ArrowDown: grid}[event.key];
  if (!step) return;
  event.preventDefault();
  const here = element.querySelector('.al-pick .here');
  const token = here ? Number(here.dataset.token) + step : tokens - grid * grid;
  if (token >= 0 && token < tokens) trigger('click', {token});
});
