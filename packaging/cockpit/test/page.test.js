/* The page in a real browser against the real bridge and agent; 'tests/cockpit' runs it. Screenshots are in $VARIANTD_SCREENSHOTS. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { cpSync, mkdirSync, readFileSync, readdirSync, readlinkSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

import { Scene, guest, uuid } from "./scene.js";

const SHOTS = process.env.VARIANTD_SCREENSHOTS;
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const PARTS = ["Devices", "Topology", "Guests", "Health", "Activity"];
const HOSTILE = "<b>x&amp\u202e";

let browser;
before(async () => {
    mkdirSync(SHOTS, { recursive: true });
    browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
});
after(() => browser.close());

/* A page with what it complained about. */
const open = async (scene, { viewport = { width: 1280, height: 800 }, style = "light", path = "/cockpit/@localhost/variantd/index.html" } = {}) => {
    const context = await browser.newContext({ viewport, colorScheme: style, hasTouch: viewport.width < 600 });
    await context.addInitScript({ content: AXE });
    const page = await context.newPage();
    page.complaints = [];
    page.requests = [];
    page.on("console", message => { if (["error", "warning"].includes(message.type())) page.complaints.push(message.text()) });
    page.on("pageerror", error => page.complaints.push(error.message));
    page.on("request", request => page.requests.push(new URL(request.url()).hostname));
    page.setDefaultTimeout(20_000);
    await page.goto(scene.url + path);
    return page;
};

const close = async page => {
    assert.deepEqual(page.complaints, []);
    await page.context().close();
};

const shot = (page, name) => page.screenshot({ path: join(SHOTS, `${name}.png`) });

/* No finding of axe-core that is serious or worse. */
const accessible = async (page, name) => {
    const found = await page.evaluate(async () => (await axe.run()).violations.map(one => [one.impact, one.id, one.nodes[0].html, one.nodes[0].failureSummary]));
    assert.deepEqual(found.filter(([impact]) => ["serious", "critical"].includes(impact)), [], name);
};

const go = (page, part) => page.getByRole("link", { name: part, exact: true }).click();
const row = (page, name) => page.getByRole("row").filter({ hasText: name });

const act = async (page, device, action) => {
    await row(page, device).getByRole("button").click();
    await page.getByRole("menuitem", { name: action }).click();
};

/* Waits for what each part shows when it has read everything. */
const ready = {
    Devices: page => page.getByRole("grid", { name: "Devices" }).waitFor(),
    Topology: page => page.locator(".vd-drawing").waitFor(),
    Guests: page => page.getByRole("grid", { name: "Guests" }).waitFor(),
    Health: page => page.getByText("Next:").waitFor(),
    Activity: page => page.getByRole("heading", { name: "Jobs" }).waitFor(),
};

test("each part is accessible in light and dark mode and on a phone", async () => {
    const guests = [guest("train", uuid(1), ["0008:01:00.0"], { isRunning: true }), guest(HOSTILE, uuid(2), ["0009:01:00.0"])];
    const scene = await Scene.start({ host: "gb200-4gpu", guests });
    try {
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
    } finally {
        scene.end();
    }
});

test("a name with markup is text, and keys select a device", async () => {
    const scene = await Scene.start({ host: "gb200-4gpu", guests: [guest(HOSTILE, uuid(2), ["0009:01:00.0"])] });
    try {
        const page = await open(scene);
        await go(page, "Guests");
        assert.equal(await row(page, "<b>x&amp").getByRole("gridcell").nth(1).innerText(), HOSTILE.replace("\u202e", "\ufffd"));
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
        await close(page);
    } finally {
        scene.end();
    }
});

test("Cockpit's menu has the page", async () => {
    const scene = await Scene.start({ host: "gh200-1gpu" });
    try {
        const page = await open(scene, { path: "/variantd" });
        await page.getByRole("link", { name: "GPU assignment" }).waitFor();
        const frame = page.frameLocator("iframe[name='cockpit1:localhost/variantd']");
        await frame.getByRole("grid", { name: "Devices" }).waitFor();
        await shot(page, "in-cockpit");
        page.complaints = page.complaints.filter(one => !/cockpit/i.test(one));
        await page.context().close();
    } finally {
        scene.end();
    }
});

/* A module that loads until 'release' exists. */
const slowModule = (host, scene) => {
    mkdirSync(join(host, "usr/sbin"), { recursive: true });
    writeFileSync(join(host, "usr/sbin/modprobe"), `#!/bin/sh\nwhile [ ! -e ${scene.path("release")} ]; do sleep 0.05; done\nexit 1\n`, { mode: 0o755 });
};

test("a reservation, a running job, and an agent that is killed during it", async () => {
    const scene = await Scene.start({ host: "hgx-8gpu", change: slowModule });
    try {
        const page = await open(scene);
        await ready.Devices(page);
        const addresses = await row(page, "10de:").getByRole("link").allInnerTexts();
        assert.equal(addresses.length, 8);
        const [device] = addresses;
        await act(page, device, "Reserve");
        await page.getByRole("dialog").getByRole("button", { name: "Reserve" }).click();
        await row(page, device).getByText("reserved").waitFor();
        await shot(page, "hgx-devices");
        await act(page, device, "Bind");
        await page.getByText(/[0-9]+ writes/).waitFor();
        await accessible(page, "dialog");
        await shot(page, "dialog-bind");
        await page.getByRole("dialog").getByRole("button", { name: "Bind", exact: true }).click();
        await page.getByRole("progressbar").waitFor();
        await shot(page, "dialog-running");
        await page.getByRole("button", { name: "Close" }).last().click();
        await go(page, "Activity");
        await page.getByRole("progressbar").waitFor();
        await accessible(page, "running job");
        await shot(page, "activity-running");
        await scene.stopAgent("SIGKILL");
        await page.getByText("variantd ended before the job did").waitFor();
        await go(page, "Devices");
        await page.getByText("variantd does not answer").waitFor();
        await accessible(page, "away");
        await shot(page, "agent-away");
        await go(page, "Health");
        await ready.Health(page);
        writeFileSync(scene.path("release"), "");
        await scene.startAgent();
        await go(page, "Devices");
        await row(page, device).waitFor();
        await close(page);
    } finally {
        scene.end();
    }
});

test("a refused bind is explained, and a user without rights is told how to get them", async () => {
    const scene = await Scene.start({ host: "hgx-8gpu", isUnprivileged: true });
    try {
        const page = await open(scene);
        await ready.Devices(page);
        const [device] = await row(page, "10de:").getByRole("link").allInnerTexts();
        await act(page, device, "Bind");
        await page.getByText("Turn on administrative access").first().waitFor();
        await page.getByRole("dialog").getByRole("button", { name: "Bind", exact: true }).click();
        await page.getByText("Bind failed").or(page.getByText(`bind ${device} failed`)).first().waitFor();
        await accessible(page, "denied");
        await shot(page, "denied");
        await close(page);
    } finally {
        scene.end();
    }
});

/* No PCI device at all. */
const empty = host => {
    const devices = join(host, "sys/bus/pci/devices");
    for (const name of readdirSync(devices))
        rmSync(join(devices, name));
};

test("an empty host", async () => {
    const scene = await Scene.start({ host: "gh200-1gpu", change: empty });
    try {
        const page = await open(scene);
        await page.getByText("This host has no device that a recipe covers.").waitFor();
        await shot(page, "empty-devices");
        await go(page, "Guests");
        await page.getByText("No guest of libvirt has a device").waitFor();
        await accessible(page, "empty");
        await close(page);
    } finally {
        scene.end();
    }
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

/* When the first row was there, in milliseconds after the navigation began. */
const interactive = async scene => {
    const page = await open(scene);
    await ready.Devices(page);
    const time = await page.evaluate(() => performance.now());
    await close(page);
    return Math.round(time);
};

test("72 devices", async context => {
    const scene = await Scene.start({ host: "gh200-1gpu", change: many(72) });
    try {
        const times = [await interactive(scene), await interactive(scene), await interactive(scene)];
        context.diagnostic(`interactive with 72 devices after ${times.join(", ")} ms`);
        const page = await open(scene);
        await page.getByText("72 devices").waitFor();
        await shot(page, "72-devices");
        await close(page);
    } finally {
        scene.end();
    }
});

test("256 devices", async () => {
    const scene = await Scene.start({ host: "gh200-1gpu", change: many(256) });
    try {
        const page = await open(scene);
        await page.getByText("256 devices").waitFor();
        await page.getByRole("button", { name: "Go to next page" }).click();
        await accessible(page, "256 devices");
        await shot(page, "256-devices");
        await close(page);
    } finally {
        scene.end();
    }
});

test("500 guests", async () => {
    const guests = Array.from({ length: 500 }, (_, index) => guest(`guest${index}`, uuid(index), ["0009:01:00.0"]));
    const scene = await Scene.start({ host: "gh200-1gpu", guests });
    try {
        const page = await open(scene);
        await go(page, "Guests");
        await page.getByText("500 guests").waitFor({ timeout: 60_000 });
        await page.getByLabel("Filter guests").fill("guest499");
        await page.getByText("1 guests").waitFor();
        await row(page, "guest499").waitFor();
        await shot(page, "500-guests");
        await close(page);
    } finally {
        scene.end();
    }
});

/* A bind that was interrupted, and a device that does not leave the driver: nothing acts on writes to the files of a modelled host. */
const degraded = (host, scene) => {
    const device = join(host, "sys/bus/pci/devices/0000:1b:00.0");
    const link = readlinkSync(join(device, "driver")).replace("nvidia", "vfio-pci");
    rmSync(join(device, "driver"));
    symlinkSync(link, join(device, "driver"));
    mkdirSync(join(host, "sys/bus/pci/drivers/vfio-pci"), { recursive: true });
    for (const name of ["bind", "unbind"])
        writeFileSync(join(host, "sys/bus/pci/drivers/vfio-pci", name), "");
    mkdirSync(scene.path("run/records"), { recursive: true });
    const before = { driver: "nvidia", driver_override: null };
    const record = { version: 2, device: "0000:1b:00.0", owner: "admin", target: "vfio-pci", before, phase: "degraded" };
    writeFileSync(scene.path("run/records/0000:1b:00.0.json"), JSON.stringify(record));
};

test("a plan is shown as a diff, made, and reverted; a degraded device has one action; a device vanishes", async () => {
    const guests = [guest("train", uuid(1), ["0000:43:00.0"], { arch: "x86_64" })];
    const scene = await Scene.start({ host: "hgx-8gpu", guests, change: degraded });
    try {
        const page = await open(scene);
        await row(page, "0000:1b:00.0").getByText("degraded").waitFor();
        await shot(page, "degraded");
        await act(page, "0000:1b:00.0", "Recover");
        await accessible(page, "recover");
        await page.getByRole("button", { name: "Cancel" }).click();
        await go(page, "Guests");
        await row(page, "train").getByRole("button").click();
        await page.locator(".vd-added").first().waitFor();
        await accessible(page, "plan");
        await shot(page, "plan");
        await page.getByRole("button", { name: "Prepare" }).click();
        await page.getByText("prepare train: done").waitFor();
        await page.getByText("The definition is complete.").waitFor();
        await shot(page, "prepared");
        await page.getByRole("button", { name: "Revert" }).click();
        await page.getByText("revert train: done").waitFor();
        await row(page, "train").getByText("reverted").first().waitFor();
        await go(page, "Devices");
        await act(page, "0000:52:00.0", "Bind");
        rmSync(join(scene.path("host"), "sys/bus/pci/devices/0000:52:00.0"));
        scene.agent.kill("SIGHUP");
        await page.getByText("is not on this host any more").waitFor();
        assert.equal(await page.getByRole("dialog").getByRole("button", { name: "Bind", exact: true }).isDisabled(), true);
        await shot(page, "vanished");
        await close(page);
    } finally {
        scene.end();
    }
});
