// Numbers in words.

export function duration(seconds) {
  if (seconds == null) return "–";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

export function pace(seconds) {
  if (seconds == null) return "–";
  return seconds < 10 ? `${seconds.toFixed(1)} s` : duration(seconds);
}

export function bytes(count) {
  if (!count) return "–";
  return count < 2 ** 30 ? `${Math.round(count / 2 ** 20)} MB` : `${(count / 2 ** 30).toFixed(1)} GB`;
}

export function percent(share) {
  return share == null ? "–" : `${Math.round(share * 100)} %`;
}

/** A small number as an artist can read it: 0.83, 12.4, 2e-5. */
export function short(value, digits = 2) {
  if (value == null || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size < 10 ** -digits) return value.toExponential(0).replace("e-", "e−");
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : digits).replace("-", "−");
}

/** A score on a picture: two decimals at most. */
export function brief(value) {
  return value == null ? "–" : value.toFixed(Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2).replace("-", "−");
}

export function signed(value) {
  const text = Math.abs(value).toFixed(1);
  return text === "0.0" ? "0" : value > 0 ? `+${text}` : `−${text}`;
}
