/* What is in the packages beside the page: entries in the list of parts (SBOM), texts of licences, the drawing of the README. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";

import { bundled } from "../build.js";

test("each npm package of the page is in the SBOM, and its licence text in the package", async () => {
    const { packages } = await bundled();
    assert.ok(packages.includes("react-dom"), "the build names what it takes from npm");
    const { components } = JSON.parse(execFileSync(fileURLToPath(new URL("../../sbom", import.meta.url))));
    const listed = components.filter(one => one.purl.startsWith("pkg:npm/")).map(one => one.name);
    assert.deepEqual(packages.filter(one => !listed.includes(one)), []);
    const licences = gunzipSync(readFileSync(new URL("../dist/LICENSES.txt.gz", import.meta.url))).toString();
    assert.deepEqual(packages.filter(one => !licences.includes(`\n${one} `) && !licences.startsWith(`${one} `)), []);
    assert.match(licences, /SIL OPEN FONT LICENSE/);
});

test("the drawing in the README is what variantctl prints for the modelled GB200 host", () => {
    const host = join(process.env.VARIANTD_HOSTS, "gb200-4gpu");
    const drawn = execFileSync(join(process.env.VARIANTD_PROGRAMS, "variantctl"), ["--host", host, "topology", "--svg", "-"], { encoding: "utf8" });
    assert.equal(readFileSync(new URL("../../doc/topology-gb200.svg", import.meta.url), "utf8"), drawn);
});
