// Reads {page: [TeX, ...]} from stdin and prints [page, TeX, what MathJax says] of each that it cannot set.
// node formulas.js FOLDER_OF_MATHJAX
const fs = require("fs"), path = require("path");

const settings = {
  loader: { load: ["input/tex", "adaptors/liteDOM"] },
  tex: { packages: { "[-]": ["noerrors", "noundefined"] }, formatError(_, error) { throw error; } },
};

async function main() {
  const MathJax = await require(path.join(process.argv[2], "node-main.js")).init(settings);
  const wrong = [];
  for (const [page, formulas] of Object.entries(JSON.parse(fs.readFileSync(0, "utf-8")))) {
    MathJax.texReset(); // each page numbers its own equations
    for (const tex of formulas) {
      await MathJax.tex2mmlPromise(tex).catch((error) => wrong.push([page, tex, error.message]));
    }
  }
  console.log(JSON.stringify(wrong));
}

main().catch((error) => { console.error(error); process.exit(1); });
