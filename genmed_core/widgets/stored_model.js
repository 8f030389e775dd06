// In place of Jupyter's model of a widget where no kernel is: on pages of a book, in exported files.
function storedModel(given) {
  const decoded = (text) => Uint8Array.fromBase64?.(text) ?? Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const unpack = (value) => {
    if (Array.isArray(value)) return value.map(unpack);
    if (!value || value.bytes === undefined) return value;
    const parts = [value.bytes].flat().map(decoded); // a list of texts is one value, in parts
    const whole = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
    let at = 0;
    for (const part of parts) { whole.set(part, at); at += part.length; }
    return new DataView(whole.buffer);
  };
  const values = {};
  for (const [key, value] of Object.entries(given)) values[key] = unpack(value);
  const watchers = new Set();
  return {
    get: (key) => values[key],
    set(key, value) {
      values[key] = value;
      for (const [name, call] of [...watchers]) if (name === `change:${key}`) call();
    },
    on: (name, call) => watchers.add([name, call]),
    off: (name, call) => watchers.forEach((each) => {
      if (each[0] === name && each[1] === call) watchers.delete(each);
    }),
    save_changes() {},
  };
}
