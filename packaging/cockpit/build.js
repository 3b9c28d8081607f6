/* Builds the page into dist/, compressed as Cockpit's own packages are, unless that is done: node build.js */

import { copyFileSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createHash } from "node:crypto";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { gzipSync } from "node:zlib";
import { PurgeCSS } from "purgecss";
import { build } from "esbuild";

const require = createRequire(import.meta.url);
const HERE = dirname(fileURLToPath(import.meta.url));

/* Classes of PatternFly that this page never uses, although PatternFly's scripts name them: components inside of others, variants for
   one width of the window, and forms of tables. The tests fail if an element of the page has one of these. */
const UNUSED = [
    /^pf-v6-c-(alert-group|badge|breadcrumb|drawer|form|inline-edit|masthead|panel|popover|radio|tooltip)(_|$)/,
    /^pf-v6-c-table__(tree-view|button-content|compound|favorite|subhead|draggable|sticky)/,
    /^pf-m-.*-on-(sm|md|lg|xl|2xl)(-height)?$/,
    /^pf-m-(tree-view-)?grid(-lg|-xl|-2xl)?$/,
    /^pf-m-tree-view/,
    /^pf-v6-theme-(felt|glass|high-contrast|redhat)/,
];

/* Fonts that no rule uses: italics, and icons of PatternFly 4. */
const withoutUnusedFonts = {
    name: "without unused fonts",
    setup: ({ onLoad }) => onLoad({ filter: /styles\/base\.css$/ }, ({ path }) => {
        const text = readFileSync(path, "utf8").replace(/@font-face\s*\{[^}]*(font-style:\s*italic|pficon)[^}]*\}/g, "");
        return { contents: text, loader: "css" };
    }),
};

/* React's modules are CommonJS, whose names esbuild looks up at each use, by a copy of all names in each of PatternFly's modules. Here
   each is imported once, and its names are variables. */
const reactByName = {
    name: "React by name",
    setup: ({ onResolve, onLoad }) => {
        onResolve({ filter: /^(react|react-dom|react\/jsx-runtime)$/ }, ({ path, namespace }) => namespace === "by-name" ? undefined : { path, namespace: "by-name" });
        onLoad({ filter: /^/, namespace: "by-name" }, ({ path }) => {
            const names = Object.keys(require(path)).map(name => `export const ${name} = all.${name};`);
            return { contents: `import all from "${path}";\nexport default all;\n${names.join("\n")}`, resolveDir: HERE };
        });
    },
};

/* The client of the agent is a file of its own, which the page loads first. */
const agentApart = {
    name: "agent apart",
    setup: ({ onResolve }) => onResolve({ filter: /^\.\/agent$/ }, () => ({ path: "./agent.js", external: true })),
};

/* The page before rules are removed: esbuild's files, and the npm packages that they are made of. */
export const bundled = async () => {
    const { metafile, outputFiles } = await build({
        absWorkingDir: HERE,
        entryPoints: { agent: "src/agent/index.ts", index: "src/index.tsx" },
        outdir: "dist",
        write: false,
        bundle: true,
        format: "esm",
        minify: true,
        metafile: true,
        target: ["chrome110", "firefox110", "safari16"],
        legalComments: "none",
        banner: { js: "/* Licences: LICENSES.txt */", css: "/* Licences: LICENSES.txt */" },
        define: { "process.env.NODE_ENV": "\"production\"" },
        loader: { ".woff2": "file", ".svg": "empty" },
        plugins: [agentApart, withoutUnusedFonts, reactByName],
        assetNames: "[name]",
        logLevel: "warning",
    });
    const inputs = Object.values(metafile.outputs).flatMap(one => Object.entries(one.inputs)).filter(([, one]) => one.bytesInOutput > 0);
    const packages = inputs.flatMap(([path]) => /^node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1] ?? []);
    return { files: new Map(outputFiles.map(one => [one.path.slice(join(HERE, "dist/").length), one])), packages: [...new Set(packages)].sort() };
};

/* The rules and variables that this page can use. */
export const purged = async (css, js) => {
    const content = [{ raw: js, extension: "js" }, { raw: readFileSync(join(HERE, "src/index.html"), "utf8"), extension: "html" }];
    const [found] = await new PurgeCSS().purge({ content, css: [{ raw: css }], variables: true, keyframes: true, blocklist: UNUSED });
    return found.css;
};

const licences = packages => {
    const texts = packages.map(name => {
        const folder = join(HERE, "node_modules", name);
        const { version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
        const file = readdirSync(folder).find(one => /^licen[sc]e(\.\w+)?$/i.test(one));
        if (file === undefined)
            throw new Error(`the npm package '${name}' has no licence text; add it to this folder and to build.js`);
        return `${name} ${version}, ${license}\n\n${readFileSync(join(folder, file), "utf8").trim()}\n`;
    });
    return [...texts, `Red Hat Text, Red Hat Display, Red Hat Mono, OFL-1.1\n\n${readFileSync(join(HERE, "OFL-1.1.txt"), "utf8")}`].join(`\n${"-".repeat(80)}\n\n`);
};

/* A sum over all that decides what is in dist/: 'tests/cockpit' and both kinds of packages share one build. */
const inputs = () => {
    const sources = readdirSync(join(HERE, "src"), { recursive: true }).map(name => join(HERE, "src", name)).filter(file => statSync(file).isFile());
    const others = ["build.js", "package-lock.json", "tsconfig.json", "OFL-1.1.txt"].map(name => join(HERE, name));
    const sum = createHash("sha256");
    for (const file of [...sources, ...others].sort())
        sum.update(`${file.slice(HERE.length)}\0`).update(createHash("sha256").update(readFileSync(file)).digest());
    return sum.digest("hex");
};

/* Beside dist/, which is installed as it is. */
const BUILT_FROM = join(HERE, "node_modules/.built-from");

const isBuilt = from => existsSync(join(HERE, "dist/manifest.json")) && existsSync(BUILT_FROM) && readFileSync(BUILT_FROM, "utf8") === from;

const write = async () => {
    rmSync(BUILT_FROM, { force: true });
    const { files, packages } = await bundled();
    const dist = join(HERE, "dist");
    rmSync(dist, { recursive: true, force: true });
    mkdirSync(dist);
    const js = files.get("index.js").text;
    const texts = { "agent.js": files.get("agent.js").text, "index.js": js, "index.css": await purged(files.get("index.css").text, js), "LICENSES.txt": licences(packages) };
    for (const [name, text] of Object.entries(texts))
        writeFileSync(join(dist, `${name}.gz`), gzipSync(text, { level: 9 }));
    for (const [name, { contents }] of files) {
        if (name.endsWith(".woff2"))
            writeFileSync(join(dist, name), contents);
    }
    for (const name of ["index.html", "manifest.json"])
        copyFileSync(join(HERE, "src", name), join(dist, name));
};

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
    const from = inputs();
    if (!isBuilt(from)) {
        await write();
        writeFileSync(BUILT_FROM, from);
    }
}
