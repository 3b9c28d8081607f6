/* A browser for the tests: opens the page in a scene, and checks what each page must satisfy. Screenshots are in $VARIANTD_SCREENSHOTS. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { gunzipSync } from "node:zlib";
import { join } from "node:path";
import { chromium } from "playwright-core";

import { Scene } from "./scene.js";
import { bundled } from "../build.js";

const SHOTS = process.env.VARIANTD_SCREENSHOTS;
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const CLASS = /\.(pf-[\w-]+)/g;
/* Its only rule is for PatternFly's other set of icons. */
const OTHER_ICONS = "pf-v6-icon-default";

let browser;
/* Classes of PatternFly whose rules 'build.js' removed. */
let removed;
before(async () => {
    mkdirSync(SHOTS, { recursive: true });
    browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
    const classes = css => [...css.matchAll(CLASS)].map(([, name]) => name);
    const kept = new Set(classes(gunzipSync(readFileSync(new URL("../dist/index.css.gz", import.meta.url))).toString()));
    removed = [...new Set(classes((await bundled()).files.get("index.css").text))].filter(name => !kept.has(name));
});
after(() => browser.close());

/* A test with a scene, which ends with it. */
export const scenario = (title, options, body) => test(title, async context => {
    const scene = await Scene.start(options);
    try {
        await body(scene, context);
    } catch (error) {
        for (const page of browser.contexts().flatMap(one => one.pages())) {
            await shot(page, `failed: ${title}`);
            await page.context().close();
        }
        context.diagnostic(`the agent's last messages: ${scene.agent.log.slice(-2000)}`);
        throw error;
    } finally {
        scene.end();
    }
});

/* A page with what it complained about. 'prepare' gets it before it loads. */
export const open = async (scene, { viewport = { width: 1280, height: 800 }, style = "light", path = "/cockpit/@localhost/variantd/index.html", isMeasured = false, prepare = () => {} } = {}) => {
    const context = await browser.newContext({ viewport, colorScheme: style, hasTouch: viewport.width < 600, permissions: ["clipboard-read", "clipboard-write"] });
    if (!isMeasured)
        await context.addInitScript({ content: AXE });
    const page = await context.newPage();
    page.complaints = [];
    page.requests = [];
    page.on("console", message => { if (["error", "warning"].includes(message.type())) page.complaints.push(message.text()) });
    page.on("pageerror", error => page.complaints.push(error.message));
    page.on("request", request => page.requests.push(new URL(request.url()).hostname));
    page.setDefaultTimeout(120_000);
    await prepare(page);
    await page.goto(scene.url + path);
    return page;
};

/* Runs in the page and logs, in milliseconds since its navigation began: when it connected to the bus, when the agent's reply came, when the
   table had a row, when that was on the screen and the page free to handle events, and when the table had 'rows' rows. A locator that waits
   would use the page's own processor. */
const notes = rows => {
    const noted = {};
    const note = name => {
        noted[name] ??= Math.round(performance.now());
        if (noted.interactive !== undefined && noted.rows !== undefined)
            console.debug(`noted ${JSON.stringify(noted)}`);
    };
    const WebSocket = window.WebSocket;
    window.WebSocket = class extends WebSocket {
        constructor(...args) {
            super(...args);
            note("connects");
            this.addEventListener("message", ({ data }) => { if (String(data).includes("/org/variantd1/device/")) note("replied") });
        }
    };
    const observer = new MutationObserver(() => {
        const { length } = document.querySelectorAll("tbody tr");
        if (length > 0 && noted.table === undefined) {
            note("table");
            requestAnimationFrame(() => setTimeout(() => { note("interactive") }));
        }
        if (length >= rows) {
            note("rows");
            observer.disconnect();
        }
    });
    observer.observe(document, { childList: true, subtree: true });
};

/* Opens the page as a user does for the first time, until the table has that many rows; what 'notes' logs. */
export const measured = async (scene, rows) => {
    let noted;
    const isNoted = new Promise(done => { noted = done });
    const prepare = async page => {
        await page.addInitScript(notes, rows);
        page.on("console", message => { if (message.text().startsWith("noted ")) noted(JSON.parse(message.text().slice("noted ".length))) });
    };
    const page = await open(scene, { isMeasured: true, prepare });
    const found = await isNoted;
    await close(page);
    return found;
};

export const close = async page => {
    assert.deepEqual(page.complaints, []);
    await page.context().close();
};

export const shot = (page, name) => page.screenshot({ path: join(SHOTS, `${name}.png`) });

/* No finding of axe-core that is serious or worse, and no element whose rules were removed. */
export const accessible = async (page, name) => {
    const found = await page.evaluate(async () => (await axe.run()).violations.map(one => [one.impact, one.id, one.nodes[0].html, one.nodes[0].failureSummary]));
    assert.deepEqual(found.filter(([impact]) => ["serious", "critical"].includes(impact)), [], name);
    await styled(page, name);
};

const styled = async (page, name) => {
    const used = await page.evaluate(() => [...new Set([...document.querySelectorAll("[class]")].flatMap(one => [...one.classList]))]);
    assert.deepEqual(used.filter(one => one !== OTHER_ICONS && removed.includes(one)), [], name);
};

export const go = (page, part) => page.getByRole("link", { name: part, exact: true }).click();
export const row = (page, name) => page.getByRole("row").filter({ hasText: name });
export const dialog = page => page.getByRole("dialog");

/* Chooses an action of a device, which opens its dialog. */
export const act = async (page, device, action) => {
    await row(page, device).getByRole("button").click();
    await page.getByRole("menuitem", { name: action }).click();
};

/* Turns administrative access on or off, as the button at the top of Cockpit does. */
export const superuser = (page, isOn) => page.evaluate(async on => {
    const channel = cockpit.dbus(null, { bus: "internal" });
    await channel.call("/superuser", "cockpit.Superuser", on ? "Start" : "Stop", on ? ["sudo"] : []);
    channel.close();
}, isOn);

/* Performs the action of the open dialog. */
export const confirm = (page, verb) => dialog(page).getByRole("button", { name: verb, exact: true }).click();

/* Waits for what each part shows when it has read everything. */
export const ready = {
    Devices: page => page.getByRole("grid", { name: "Devices" }).waitFor(),
    Topology: page => page.locator(".vd-drawing").waitFor(),
    Guests: page => page.getByRole("grid", { name: "Guests" }).waitFor(),
    Health: page => page.getByText("Next:").waitFor(),
    Activity: page => page.getByRole("heading", { name: "Jobs" }).waitFor(),
};
