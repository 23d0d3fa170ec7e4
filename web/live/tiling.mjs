// How equal tiles fill a space.

/** As many columns as make `count` tiles of the given shape (width / height) largest: {columns, width, height}. */
export function tiling(count, shape, { clientWidth: width, clientHeight: height }, gap = 6) {
  let best = { size: 0, columns: 1 };
  for (let columns = 1; columns <= count; columns++) {
    const rows = Math.ceil(count / columns);
    const size = Math.min((width - gap * (columns - 1)) / columns, ((height - gap * (rows - 1)) / rows) * shape);
    if (size > best.size) best = { size, columns };
  }
  const size = Math.max(24, Math.floor(best.size));
  return { columns: best.columns, width: size, height: Math.floor(size / shape) };
}

/** Lay out a grid element so. */
export function tile(grid, { columns, width, height }) {
  grid.style.gridTemplateColumns = `repeat(${columns}, ${width}px)`;
  grid.style.gridAutoRows = `${height}px`;
}
