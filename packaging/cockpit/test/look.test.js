/* How the page looks and behaves without a change of the host: accessibility, hostile names, hints, Cockpit's menu, large hosts. */

import assert from "node:assert/strict";
import { cpSync, readdirSync, readlinkSync, rmSync, symlinkSync } from "node:fs";
import { dirname, join } from "node:path";

import { accessible, close, go, measured, open, ready, row, scenario, shot } from "./page.js";
import { guest, uuid } from "./scene.js";

const PARTS = ["Devices", "Topology", "Guests", "Health", "Activity"];
const HOSTILE = "<b>x&amp\u202e\u009b";

const pair = [guest("train", uuid(1), ["0008:01:00.0"], { isRunning: true }), guest(HOSTILE, uuid(2), ["0009:01:00.0"])];

scenario("each part is accessible in light and dark mode and on a phone", { host: "gb200-4gpu", guests: pair }, async scene => {
    const forms = { light: {}, dark: { style: "dark" }, phone: { viewport: { width: 390, height: 780 } } };
    for (const [form, options] of Object.entries(forms)) {
        const page = await open(scene, options);
        for (const part of PARTS) {
            await go(page, part);
            await ready[part](page);
            await accessible(page, `${part}, ${form}`);
            await shot(page, `gb200-${part.toLowerCase()}-${form}`);
            const wide = await page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth);
            assert.equal(wide, false, `${part} is wider than a ${form} screen`);
        }
        assert.deepEqual(new Set(page.requests), new Set(["127.0.0.1"]));
        await close(page);
    }

    const page = await open(scene);
    await go(page, "Guests");
    assert.equal(await row(page, "<b>x&amp").getByRole("gridcell").nth(1).innerText(), "<b>x&amp\ufffd\ufffd");
    await row(page, "<b>x").getByRole("button").click();
    /* libvirt's test driver has QEMU 0.0.2. */
    await page.getByText("VD-TGT-001").first().waitFor();
    await accessible(page, "refusal");
    await shot(page, "refused-guest");

    await go(page, "Topology");
    const device = page.locator(".vd-device").filter({ hasText: "0018:01:00.0" }).last();
    await device.focus();
    await page.keyboard.press("Enter");
    await page.getByRole("status").filter({ hasText: "0018:01:00.0" }).waitFor();
    assert.equal(await device.getAttribute("aria-pressed"), "true");
    await page.getByLabel("Guest beside the host").selectOption({ index: 1 });
    await shot(page, "topology-selected");

    await go(page, "Health");
    await copiesCommands(page);
    await close(page);
});

/* The button beside a command copies it, also without HTTPS, where the browser gives a page no clipboard. */
const copiesCommands = async page => {
    await ready.Health(page);
    const command = await page.getByText("Next:").locator("code").innerText();
    assert.match(command, /^variantctl /);
    for (const isSecure of [true, false]) {
        await page.evaluate(async value => {
            await navigator.clipboard.writeText("");
            Object.defineProperty(window, "isSecureContext", { value, configurable: true });
        }, isSecure);
        await page.getByRole("button", { name: /^cop(y|ied): variantctl / }).first().click();
        await page.getByRole("button", { name: `copied: ${command}`, exact: true }).waitFor();
        await page.waitForFunction(async text => await navigator.clipboard.readText() === text, command);
    }
    await shot(page, "copied-command");
};

/* No PCI device at all. */
const empty = host => {
    const devices = join(host, "sys/bus/pci/devices");
    for (const name of readdirSync(devices))
        rmSync(join(devices, name));
};

scenario("an empty host, and Cockpit's menu", { host: "gh200-1gpu", change: empty }, async scene => {
    const page = await open(scene);
    await page.getByText("This host has no device that a recipe covers.").waitFor();
    await shot(page, "empty-devices");
    await go(page, "Guests");
    await page.getByText("No guest of libvirt has a device").waitFor();
    await accessible(page, "empty");
    await close(page);

    const shell = await open(scene, { path: "/variantd" });
    await shell.getByRole("link", { name: "GPU assignment" }).waitFor();
    await shell.frameLocator("iframe[name='cockpit1:localhost/variantd']").getByRole("grid", { name: "Devices" }).waitFor();
    await shot(shell, "in-cockpit");
    /* Complaints of Cockpit's own pages are not ours. */
    await shell.context().close();
});

/* Copies of the host's first GPU with its root port, in further PCI segments. */
const many = count => host => {
    const devices = join(host, "sys/bus/pci/devices");
    const link = readlinkSync(join(devices, "0009:01:00.0"));
    const source = join(devices, dirname(dirname(link)));
    for (let index = 0; index < count - 1; index += 1) {
        const segment = (0x1000 + index).toString(16);
        const target = source.replace("pci0009", `pci${segment}`);
        cpSync(source, target, { recursive: true, verbatimSymlinks: true });
        for (const [from, to] of [["0009:00:00.0/0009:01:00.0", `0009:00:00.0/${segment}:01:00.0`], ["0009:00:00.0", `${segment}:00:00.0`]]) {
            cpSync(join(target, from), join(target, to), { recursive: true, verbatimSymlinks: true });
            rmSync(join(target, from), { recursive: true });
        }
        symlinkSync(link.replaceAll("0009:", `${segment}:`), join(devices, `${segment}:01:00.0`));
        symlinkSync(dirname(link).replaceAll("0009:", `${segment}:`), join(devices, `${segment}:00:00.0`));
    }
};

/* The parts of several openings: the median of each, and every value of "interactive". */
const inWords = runs => {
    const sorted = name => runs.map(one => one[name]).sort((a, b) => a - b);
    const medians = Object.keys(runs[0]).map(name => `${name} ${sorted(name)[runs.length >> 1]}`);
    return `${medians.join(", ")} (ms, median of ${runs.length}; interactive: ${sorted("interactive").join(" ")})`;
};

scenario("72 devices", { host: "gh200-1gpu", change: many(72) }, async (scene, context) => {
    const runs = [];
    for (let count = 0; count < 5; count += 1)
        runs.push(await measured(scene, 50));
    context.diagnostic(`72 devices: ${inWords(runs)}`);
    const page = await open(scene);
    await page.getByText("72 devices").waitFor();
    // The first rows are shown before the others.
    const rows = page.getByRole("row").filter({ hasText: "10de:" });
    await rows.nth(49).waitFor();
    assert.equal(await rows.count(), 50);
    await shot(page, "72-devices");
    await close(page);
});

scenario("the agent is asked once, in one round trip, and has replied before the page's script is loaded", { host: "hgx-8gpu" }, async scene => {
    /* What goes over Cockpit's socket: calls, and replies of the agent and of the bridge. */
    const calls = [];
    let roundTrips = 0;
    let isSending = false;
    let replied = () => {};
    const isReplied = new Promise(done => { replied = done });
    const prepare = async page => {
        page.on("websocket", socket => {
            socket.on("framesent", ({ payload }) => {
                roundTrips += isSending ? 0 : 1;
                isSending = true;
                calls.push(...[...String(payload).matchAll(/"call":\["[^"]*","[^"]*","(\w+)"/g)].map(([, method]) => method));
            });
            socket.on("framereceived", ({ payload }) => {
                isSending = false;
                if (String(payload).includes("/org/variantd1/device/"))
                    replied({ roundTrips, calls: [...calls] });
            });
        });
        await page.route("**/index.js", async route => {
            await isReplied;
            await route.continue();
        });
    };
    const page = await open(scene, { prepare });
    await ready.Devices(page);
    /* Cockpit's own greeting, then all calls at once. */
    assert.deepEqual(await isReplied, { roundTrips: 2, calls: ["GetManagedObjects", "ListDomains", "Get"] });
    await close(page);
});

/* The first cell with a name in each row, over all pages of a list. */
const allRows = async (page, list, cell) => {
    const found = [];
    for (;;) {
        found.push(...await page.getByRole("grid", { name: list }).locator("tbody tr").evaluateAll((rows, at) => rows.map(one => one.cells[at].innerText.split("\n")[0]), cell));
        const next = page.getByRole("button", { name: "Go to next page" });
        if (await next.isDisabled())
            return found;
        await next.click();
    }
};

const crowd = Array.from({ length: 500 }, (_, index) => guest(`guest${index}`, uuid(index), [index % 256 === 0 ? "0009:01:00.0" : `${(0x0fff + index % 256).toString(16)}:01:00.0`]));

scenario("256 devices and 500 guests", { host: "gh200-1gpu", change: many(256), guests: crowd }, async (scene, context) => {
    const runs = [];
    for (let count = 0; count < 3; count += 1)
        runs.push(await measured(scene, 50));
    context.diagnostic(`256 devices, 500 guests: ${inWords(runs)}`);
    const page = await open(scene);
    await page.getByText("256 devices").waitFor();
    await row(page, "10de:").nth(49).waitFor();
    const devices = await allRows(page, "Devices", 0);
    assert.deepEqual([devices.length, new Set(devices).size], [256, 256]);
    await accessible(page, "256 devices");
    await shot(page, "256-devices");

    await go(page, "Guests");
    await page.getByText("500 guests").waitFor({ timeout: 240_000 });
    const guests = await allRows(page, "Guests", 1);
    assert.deepEqual(guests.sort(), crowd.map((_, index) => `guest${index}`).sort());
    await page.getByLabel("Filter guests").fill("guest499");
    await page.getByText("1 guest", { exact: true }).waitFor();
    await row(page, "guest499").waitFor();
    await accessible(page, "500 guests");
    await shot(page, "500-guests");
    await close(page);
});
