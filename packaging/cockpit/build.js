/* Builds the page into dist/: node build.js */

import { copyFileSync, mkdirSync, rmSync } from "node:fs";
import { build } from "esbuild";

rmSync("dist", { recursive: true, force: true });
mkdirSync("dist");
await build({
    entryPoints: { index: "src/index.tsx" },
    outdir: "dist",
    bundle: true,
    minify: true,
    target: ["chrome110", "firefox110", "safari16"],
    legalComments: "linked",
    define: { "process.env.NODE_ENV": "\"production\"" },
    loader: { ".woff2": "file", ".ttf": "empty", ".woff": "empty", ".svg": "empty", ".png": "empty", ".jpg": "empty" },
    assetNames: "[name]",
    logLevel: "warning",
});
for (const name of ["index.html", "manifest.json"])
    copyFileSync(`src/${name}`, `dist/${name}`);
