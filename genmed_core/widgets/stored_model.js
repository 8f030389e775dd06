// In place of Jupyter's model of a widget where no kernel is: on pages of a book, in exported files.
function storedModel(given) {
  const unpack = (value) => {
    if (Array.isArray(value)) return value.map(unpack);
    if (!value || value.bytes === undefined) return value;
    const bytes = Uint8Array.fromBase64?.(value.bytes) ?? Uint8Array.from(atob(value.bytes), (c) => c.charCodeAt(0));
    return new DataView(bytes.buffer);
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
